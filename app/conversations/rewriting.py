"""A dataset without some of its lines and with others mended: what a new version is made of.

Lines that nothing was found in are copied as they are. A line is mended at the place of each finding, then looked at
again; one that still has the fault, or cannot be trained any more, is dropped, so that no repaired fault is left.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from app.conversations.lints import duplicate_key
from app.conversations.lints.columns import hashes
from app.conversations.lints.kinds import KINDS
from app.conversations.lints.local import LINTS
from app.conversations.lints.record import Record
from app.conversations.lints.repairs import REPAIRS, drop
from app.conversations.normalize import json_text
from app.conversations.reader import BLANKS, BOM, RawLine, conversation_of, parse_line, raw_lines
from app.conversations.records import Line, Rejected

# Said once of a whole file; mending one mends them all, as the lines are then written anew.
OF_THE_FILE = frozenset({"byte_order_mark", "windows_line_ends", "blank_line"})
# Mended anywhere in the record where the place of the finding alone was not enough, as in the calls of tools.
ANYWHERE = ("mojibake", "secret", "personal_data")
CHUNK = 2**20
Places = list[tuple[str, str]]


def as_read(value: Any, field: str) -> Any:
    """Writing the record anew is all the repair it takes."""
    return value


REPAIRABLE: dict[str, Callable[[Any, str], Any]] = {**REPAIRS, "duplicate_key": as_read}


class Asked(msgspec.Struct, frozen=True):
    """Kinds of findings: lines to leave out, and lines to mend."""

    exclude: frozenset[str]
    repair: frozenset[str]

    def problem(self) -> tuple[str, str] | None:
        """(field, what is wrong with it), or None."""
        for field, kinds in (("exclude", self.exclude), ("repair", self.repair)):
            if unknown := sorted(kinds - KINDS.keys()):
                return field, f"there is no kind of finding {unknown[0]!r}"
        if fixed := sorted(self.exclude & OF_THE_FILE):
            return "exclude", f"{fixed[0]} is said of the whole file: it can be repaired, not excluded"
        if lost := sorted(self.repair - REPAIRABLE.keys() - OF_THE_FILE):
            return "repair", f"{lost[0]} cannot be repaired, only excluded"
        if both := sorted(self.exclude & self.repair):
            return "repair", f"{both[0]} is to be excluded already"
        return None if self.exclude or self.repair else ("repair", "name a kind to repair or to exclude")

    @property
    def kinds(self) -> frozenset[str]:
        return self.exclude | self.repair

    @property
    def tidy(self) -> bool:
        return bool(self.repair & OF_THE_FILE)


class Found(NamedTuple):
    """The findings of one line that are to be dealt with, each (kind, field)."""

    line: int
    places: Places


class Change(msgspec.Struct, frozen=True):
    """One line that is not as it was; the offsets are those of its bytes in the old and the new file."""

    line: int
    new_line: int | None
    action: str
    kinds: list[str]
    start: int
    end: int
    new_start: int
    new_end: int


class Rewriting:
    """Goes through the lines once. `write` takes the bytes of the new file, `changes` a JSON line for each change."""

    def __init__(self, asked: Asked, write: Callable[[bytes], None], changes: Callable[[bytes], None]) -> None:
        self._asked, self._write, self._note = asked, write, changes
        self._seen: set[int] | None = set() if "exact_duplicate" in asked.kinds else None
        self._new_line = self._new_end = 0
        self.counts: Counter[str] = Counter()

    def run(self, path: Path, found: Iterator[Found]) -> None:
        """`found` is in the order of the lines. Raises `OSError`."""
        waiting = next(found, None)
        with path.open("rb") as file, path.open("rb") as again:
            for raw_line in raw_lines(file):
                places: Places = []
                if waiting is not None and waiting.line == raw_line.number:
                    places, waiting = waiting.places, next(found, None)
                self._take(raw_line, places, again)

    def _take(self, raw_line: RawLine, places: Places, file: BinaryIO) -> None:
        kinds = [kind for kind, _ in places if kind not in OF_THE_FILE and kind != "exact_duplicate"]
        if left_out := [kind for kind in kinds if kind in self._asked.exclude]:
            return self._change(raw_line, "excluded", left_out, None)
        if dropped := [kind for kind in kinds if REPAIRABLE[kind] is drop]:
            return self._change(raw_line, "dropped", dropped, None)
        if not kinds and self._seen is None:
            return self._copy(raw_line, file)
        line = parse_line(raw_line)
        if line is None or line.error:
            return self._copy(raw_line, file)
        data = line.raw
        if kinds:
            data = mended(line, [place for place in places if place[0] in kinds])
        record = record_of(data)
        left = kinds if kinds and record is None else sorted(faults(record) & self._asked.kinds) if kinds else []
        if left:
            action = "excluded" if self._asked.exclude.intersection(left) else "dropped"
            return self._change(raw_line, action, left, None)
        if record is not None and self._is_again(record):
            action = "excluded" if "exact_duplicate" in self._asked.exclude else "dropped"
            return self._change(raw_line, action, ["exact_duplicate"], None)
        if kinds:
            return self._change(raw_line, "repaired", kinds, data)
        return self._copy(raw_line, file)

    def _is_again(self, record: Record) -> bool:
        if self._seen is None:
            return False
        whole = hashes(record)[2]
        known = whole in self._seen
        self._seen.add(whole)
        return known

    def _change(self, raw_line: RawLine, action: str, kinds: list[str], data: bytes | None) -> None:
        new_start, kinds = self._new_end, sorted(set(kinds))
        if data is not None:
            self._put(data + b"\n")
            self._new_line += 1
        new_line = None if data is None else self._new_line
        change = Change(
            raw_line.number, new_line, action, kinds, raw_line.start, raw_line.end, new_start, self._new_end
        )
        self._note(msgspec.json.encode(change) + b"\n")
        self.counts[action] += 1

    def _copy(self, raw_line: RawLine, file: BinaryIO) -> None:
        if self._asked.tidy and not raw_line.is_cut:
            data = (raw_line.raw.removeprefix(BOM) if raw_line.start == 0 else raw_line.raw).strip(BLANKS)
            if not data:
                return
            self._put(data + b"\n")
        elif raw_line.is_cut:
            file.seek(raw_line.start)
            for place in range(raw_line.start, raw_line.end, CHUNK):
                self._put(file.read(min(CHUNK, raw_line.end - place)))
        else:
            self._put(raw_line.raw)
        self._new_line += 1

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._new_end += len(data)


def mended(line: Line, places: Places) -> bytes:
    """The record with each of its faults mended, as JSON; at the place of the finding first, else anywhere."""
    value = line.value
    for kind, field in places:
        value = REPAIRABLE[kind](value, field)
    data = json_text(value).encode()
    record = record_of(data)
    if record is None or record.conversation.images:
        return data
    left = faults(record)
    for kind in ANYWHERE:
        if kind in left and any(kind == one for one, _ in places):
            value = REPAIRABLE[kind]({"record": value}, "record")["record"]
            data = json_text(value).encode()
    return data


def record_of(data: bytes) -> Record | None:
    """The record as the lints see it; None where it cannot be trained."""
    line = parse_line(RawLine(1, 1, 1 + len(data), data, False))
    conversation = conversation_of(line) if line else None
    if line is None or conversation is None or isinstance(conversation, Rejected):
        return None
    return Record.of(line, conversation)


def faults(record: Record | None) -> set[str]:
    """Kinds that are found in the record alone."""
    if record is None:
        return set()
    repeated = {finding.kind for finding in duplicate_key.find(1, record.raw, record.value)}
    return repeated | {finding.kind for lint in LINTS for finding in lint(record)}
