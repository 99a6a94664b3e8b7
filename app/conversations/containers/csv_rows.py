"""Rows of a CSV as records. A row that is broken or too long is one finding; memory is bounded by one row."""

import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from app.conversations.reader import LINE_LIMIT
from app.conversations.unread import unread_line

# Columns whose cells are JSON: no cell of a table holds a list otherwise.
JSON_COLUMNS = ("messages", "conversations", "history", "images", "tools")
# A row of more lines is not one: a quote is open.
MOST_LINES = 100_000
# So many characters in all are read again behind quotes that were left open.
MOST_AGAIN = 4 * LINE_LIMIT


def rows(stream: IO[bytes], names: list[str], delimiter: str) -> Iterator[bytes]:
    """The rows below the header; what is at fault is told with the line of the file."""
    csv.field_size_limit(LINE_LIMIT)
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text, delimiter)
    found = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        text.readline(LINE_LIMIT)
        while True:
            lines.begin()
            try:
                if row := next(found):
                    yield _record(dict(zip(names, row, strict=False)), len(row) - len(names), lines.first)
            except StopIteration:
                return
            except csv.Error as error:
                yield lines.broken(str(error))
            except _TooLong:
                yield lines.too_long()
    finally:
        text.detach()  # the stream is closed by whoever opened it


class _TooLong(Exception):
    """A row has more than a line may have."""


class _Lines:
    """The lines for a CSV reader; those behind a quote that was left open are read again."""

    def __init__(self, text: io.TextIOWrapper, delimiter: str) -> None:
        self._text, self._openings = text, ('"', f'{delimiter}"')
        self._row: list[str] = []
        self._again: list[str] = []
        self._left = MOST_AGAIN
        self._size, self._is_over = 0, False
        self.first, self._last = 1, 1

    def begin(self) -> None:
        """What comes next is the first line of a row."""
        self._row.clear()
        self._size, self._is_over, self.first = 0, False, self._last + 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._text.readline(LINE_LIMIT + 1)
        if not line:
            self._is_over = True
            raise StopIteration
        self._last += 1
        self._row.append(line)
        self._size += len(line)
        if self._size > LINE_LIMIT or len(self._row) > MOST_LINES:
            raise _TooLong
        return line

    def broken(self, reason: str) -> bytes:
        """The row that a reader gave up. Where its quote was left open, the lines behind its first are rows again."""
        shown, size = self._row[0], self._size - len(self._row[0])
        if self._is_left_open():
            reason = "a quote is left open"
            if size <= self._left:
                self._left -= size
                self._again += self._row[:0:-1]
                self._last = self.first
        return unread_line("not_json", f"The CSV is broken at {self._where()}: {reason}.", shown)

    def _is_left_open(self) -> bool:
        """Whether the quote at fault opens a cell of a later line, or is nowhere: then the first line lacks one."""
        last = self._row[-1]
        if self._is_over or len(self._row) == 1:
            return self._is_over
        at = last.find('"')
        return at <= 0 or last[at - 1 : at + 1] in self._openings

    def too_long(self) -> bytes:
        """Goes behind a row that is not read: to the end of the line in which its quotes are even."""
        shown, num_quotes, line = self._row[0], sum(one.count('"') for one in self._row), self._row[-1]
        self._row.clear()
        while num_quotes % 2 or not line.endswith(("\n", "\r")):
            self._last += line.endswith(("\n", "\r"))
            line = self._again.pop() if self._again else self._text.readline(LINE_LIMIT)
            num_quotes += line.count('"')
            if not line:
                break
        reason = f"it is longer than {LINE_LIMIT:,} bytes, or a quote is left open, and was not read"
        return unread_line("wrong_shape", f"The row of the CSV at {self._where()}: {reason}.", shown)

    def _where(self) -> str:
        return f"line {self.first}" if self.first >= self._last else f"lines {self.first:,} to {self._last:,}"


def _record(row: dict[str, Any], num_more: int, line: int) -> bytes:
    if num_more:
        what = f"{abs(num_more)} cells {'more' if num_more > 0 else 'fewer'} than the first line has names"
        return unread_line("wrong_shape", f"Line {line} of the CSV has {what}.", " | ".join(row.values()))
    for name in JSON_COLUMNS:
        if name in row:
            try:
                row[name] = msgspec.json.decode(row[name]) if row[name].strip() else None
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue  # stays a text, which the shape then refuses by its name
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        reason = f"Line {line} of the CSV is not UTF-8; save the file as UTF-8."
        return unread_line("not_json", reason, " | ".join(map(str, row.values())))
