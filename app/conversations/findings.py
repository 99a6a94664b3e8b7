"""What was seen in a dataset, line by line, in the form that API, pages and `trainctl check` show."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.reader import read_conversations
from app.conversations.records import Conversation, Line, Rejected

EXCERPT_LENGTH = 160
# Enough bytes for an excerpt even where each character is four bytes and half of them are control characters.
EXCERPT_BYTES = 8 * EXCERPT_LENGTH


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing seen at one line; `field` is a path in the record, "" for the whole line."""

    kind: str
    severity: str
    line: int
    field: str
    message: str
    excerpt: str
    other_line: int | None = None
    other_dataset: int | None = None  # whose line that is, where it is not of the same file

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


class Checked(msgspec.Struct, frozen=True):
    """One line with its conversation, or with the finding that keeps it out."""

    line: Line
    conversation: Conversation | None
    findings: tuple[Finding, ...]


def check_lines(path: Path) -> Iterator[Checked]:
    """Every line that is not blank, for errors alone. A line in error has one finding: what first keeps it out."""
    for line, found in read_conversations(path):
        if isinstance(found, Rejected):
            yield Checked(line, None, (error_finding(line, found),))
        else:
            yield Checked(line, found, ())


def error_finding(line: Line, error: Rejected) -> Finding:
    text = error.excerpt or line.raw[:EXCERPT_BYTES].decode("utf-8", errors="replace")
    return Finding(error.kind, "error", line.number, error.field, printable(error.message), excerpt(text))


def printable(text: str) -> str:
    """The text without control characters, direction marks and the like, which could garble a terminal or a page."""
    return text if text.isprintable() else "".join([char if char.isprintable() else " " for char in text])


def excerpt(text: str) -> str:
    """At most 160 printable characters, white space collapsed."""
    plain = " ".join(printable(text[:EXCERPT_BYTES]).split())
    return plain if len(plain) <= EXCERPT_LENGTH else plain[: EXCERPT_LENGTH - 3] + "..."
