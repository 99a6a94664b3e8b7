"""What the lints that compare records are given, and what they answer."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from app.conversations.lints.columns import Columns, first_rows
from app.conversations.lints.record import Record
from app.conversations.reader import conversation_of, parse_line, raw_lines
from app.conversations.records import Conversation


class Seen(NamedTuple):
    """A fault of one row, with the row it is like; without a turn it is one of the last answer that is learned."""

    message: str
    other: int | None = None
    turn: int | None = None


Judge = Callable[[int], Seen | None]


class Comparison:
    """The columns of a file, and its records when one is needed again."""

    def __init__(self, path: Path, columns: Columns, frame: frozenset[str]) -> None:
        self.columns, self.frame, self.num_rows = columns, frame, columns.num_rows
        self._file = path.open("rb")
        self.record = lru_cache(maxsize=64)(self._read)

    @cached_property
    def first_whole(self) -> Sequence[int]:
        return first_rows(self.columns["record"])

    @cached_property
    def first_question(self) -> Sequence[int]:
        return first_rows(self.columns["question"])

    def line(self, row: int) -> int:
        return self.columns["line"][row]

    def _read(self, row: int) -> Record:
        found = next(raw_lines(self._file, self.columns["start"][row]))
        line = parse_line(found._replace(number=self.line(row)))
        conversation = conversation_of(line) if line else None
        assert line and isinstance(conversation, Conversation), "a row stands for a valid record"
        return Record.of(line, conversation)

    def close(self) -> None:
        self._file.close()


def nothing(row: int) -> None:
    """The judge of a lint that has nothing to say about this file."""
