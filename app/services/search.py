"""Full-text search in the lines of a dataset: a scan of the file that stops early and tells where to go on."""

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.conversations.findings import excerpt
from app.conversations.reader import BLANKS, RawLine, raw_lines
from app.errors import Conflict, wrong_field
from app.models import Finding

SCAN_S = 1.0  # a page of hits
STEP_S = 8.0  # the next or previous hit, which must be found or not
MOST_LINES = 100_000  # of one kind of finding, held at once
BEFORE_HIT = 60
LINES_PER_LOOK = 64  # how often the clock is read

PICTURE = re.compile(r"base64,[A-Za-z0-9+/=]+")
ESCAPED = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
ASKED = re.compile(r'"(?:user|human|instruction|prompt)"')
SAID = re.compile(r'"(?:content|value|text|instruction|prompt)"\s*:\s*"')


class Wanted(NamedTuple):
    """A text anywhere in the line, in any case, and a finding of that kind and severity; empty means any."""

    query: str = ""
    kind: str | None = None
    severity: str | None = None


class Place(NamedTuple):
    """Where to go on: the offset at which a line begins, and how many lines stand before it."""

    offset: int = 0
    line: int = 0

    @classmethod
    def read(cls, text: str | None) -> "Place":
        if not text:
            return cls()
        match = re.fullmatch(r"(\d{1,18})\.(\d{1,18})", text, re.ASCII)
        if match is None:
            raise wrong_field("after", "is not the `next` of a page before")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.offset}.{self.line}"


class Hit(NamedTuple):
    line: int
    excerpt: str


def text_of(raw: bytes) -> str:
    """The line as a person would search it: escapes as letters, without the bytes of pictures."""
    text = raw.strip(BLANKS).decode("utf-8", "replace")
    if "base64," in text:
        text = PICTURE.sub("base64,", text)
    return ESCAPED.sub(_letters, text) if "\\u" in text else text


def _letters(found: re.Match[str]) -> str:
    codes = [int(code, 16) for code in found[0].split("\\u")[1:]]
    letters = b"".join(code.to_bytes(2, "little") for code in codes).decode("utf-16-le", "replace")
    return letters if letters.isprintable() else found[0]


class Needle:
    """A text as it was typed, or as JSON writes it."""

    def __init__(self, query: str) -> None:
        typed = query.lower()
        self._forms = {typed, typed.replace("\\", "\\\\").replace('"', '\\"')}

    def place(self, text: str) -> int | None:
        """Where in the text it first stands, if anywhere."""
        lower = text.lower()
        return min((at for form in self._forms if (at := lower.find(form)) >= 0), default=None)

    def hit(self, raw: bytes) -> str | None:
        """What stands around it in the line; None where it is not in there, or the line is blank."""
        text = text_of(raw)
        at = self.place(text) if text else None
        if at is None:
            return None
        start = max(0, at - BEFORE_HIT) if self._forms != {""} else _question(text)
        return ("... " if start else "") + excerpt(text[start:])


def _question(text: str) -> int:
    """Where the first question begins, as far as can be told without parsing."""
    asked = ASKED.search(text)
    said = SAID.search(text, max(0, asked.start() - 1) if asked else 0)
    return said.end() if said else 0


def find(
    path: Path, query: str, lines: set[int] | None, place: Place, limit: int, seconds: float = SCAN_S
) -> tuple[list[Hit], Place | None]:
    """The next hits in the given lines (None: in all), and where to go on; None at the end of the file."""
    needle, until, hits = Needle(query), time.monotonic() + seconds, list[Hit]()
    last = max(lines, default=0) if lines is not None else None
    with path.open("rb") as file:
        for line in raw_lines(file, place.offset):
            number = place.line + line.number
            if last is not None and number > last:
                return hits, Place(line.start, number - 1) if lines and len(lines) == MOST_LINES else None
            found = needle.hit(line.raw) if lines is None or number in lines else None
            if found is not None:
                hits.append(Hit(number, found))
            if len(hits) == limit or _is_late(line, until):
                return hits, Place(line.end, number)
    return hits, None


def _is_late(line: RawLine, until: float) -> bool:
    return line.number % LINES_PER_LOOK == 0 and time.monotonic() > until


def lines_with(session: Session, dataset_id: int, wanted: Wanted, line: int, forward: bool = True) -> set[int] | None:
    """The lines nearest behind `line` (or before it) that have such a finding; None where any line will do."""
    if wanted.kind is None and wanted.severity is None:
        return None
    query = select(Finding.line).where(*_conditions(dataset_id, wanted)).distinct().limit(MOST_LINES)
    if forward:
        return set(session.exec(query.where(Finding.line > line).order_by(col(Finding.line))))
    return set(session.exec(query.where(Finding.line < line).order_by(col(Finding.line).desc())))


def _conditions(dataset_id: int, wanted: Wanted) -> list[Any]:
    conditions: list[Any] = [Finding.dataset_id == dataset_id]
    conditions += [Finding.kind == wanted.kind] if wanted.kind is not None else []
    return conditions + ([Finding.severity == wanted.severity] if wanted.severity is not None else [])


def neighbour(path: Path, query: str, lines: set[int] | None, line: int, forward: bool) -> int | None:
    """The next (or previous) line that is wanted, never a blank one; raises `Conflict` if that is slow."""
    if lines is not None and not query:
        return (min if forward else max)(lines, default=None)
    needle, until, before = Needle(query), time.monotonic() + STEP_S, None
    with path.open("rb") as file:
        for found in raw_lines(file):
            if not forward and found.number >= line:
                return before
            if _is_late(found, until):
                raise Conflict("The file is too large to search so far back; use the list of hits.")
            if (forward and found.number <= line) or (lines is not None and found.number not in lines):
                continue
            if found.raw.strip(BLANKS) and (not query or needle.place(text_of(found.raw)) is not None):
                if forward:
                    return found.number
                before = found.number
    return before


def page(
    session: Session, path: Path, dataset_id: int, wanted: Wanted, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of hits as the API shows them, and the cursor of the page after it."""
    place = Place.read(after)
    lines = lines_with(session, dataset_id, wanted, place.line)
    hits, behind = find(path, wanted.query, lines, place, limit)
    return [hit._asdict() for hit in hits], str(behind) if behind else None


def position(session: Session, dataset_id: int, wanted: Wanted, line: int) -> tuple[int, int] | None:
    """(which it is, of how many) among the lines with such a finding; None where none is asked for."""
    if wanted.kind is None and wanted.severity is None:
        return None
    query = select(func.count(func.distinct(Finding.line))).where(*_conditions(dataset_id, wanted))
    return session.exec(query.where(Finding.line <= line)).one(), session.exec(query).one()
