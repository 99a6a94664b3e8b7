"""A few numbers of every record, kept on disk: what the lints that compare records work on.

Each column is one temporary file, mapped into memory once it is complete, so that the system can put it aside: memory
stays bounded with files of any size. Texts are not kept; a record that is spoken of is read again from its place.
"""

import hashlib
import mmap
import tempfile
from array import array
from collections.abc import Mapping, MutableSequence, Sequence
from typing import IO, Any, Literal

from app.conversations.lints.json_answers import json_state
from app.conversations.lints.language_of import language_of
from app.conversations.lints.near_duplicate import NUM_BANDS, bands
from app.conversations.lints.record import Record, digest

# line and file offset; hashes of the whole, of all before the last answer that is learned, of that answer, of the
# system turn; characters; a place in `LANGUAGES`; a state of `json_answers`; hashes for near duplicates.
TYPES: dict[str, Literal["Q", "B", "I"]] = {
    "line": "Q",
    "start": "Q",
    "record": "Q",
    "question": "Q",
    "answer": "Q",
    "system": "Q",
    "length": "Q",
    "language": "B",
    "json": "B",
    "bands": "I",
}
# A table of this many hashes takes 60 MB; more rows than that are gone through in several turns.
TABLE_ROWS = 500_000


class Facts:
    """The columns of a part of a file, in memory."""

    def __init__(self, frame: frozenset[str] | None) -> None:
        self._frame = frame  # None leaves near duplicates out
        self.columns = {name: array(kind) for name, kind in TYPES.items()}

    def add(self, record: Record, start: int) -> None:
        question, answer, whole = hashes(record)
        system = record.texts[0] if record.conversation.turns[0].role == "system" else ""
        row = {
            "line": record.line,
            "start": start,
            "record": whole,
            "question": question,
            "answer": answer,
            "system": digest(system.encode()) if system else 0,
            "length": sum(map(len, record.texts)),
            "language": language_of(record.until_answer),
            "json": json_state(record),
        }
        for name, value in row.items():
            self.columns[name].append(value)
        if self._frame is not None:
            self.columns["bands"].extend(bands(record.texts, self._frame))

    def as_bytes(self) -> dict[str, bytes]:
        return {name: column.tobytes() for name, column in self.columns.items()}


def hashes(record: Record) -> tuple[int, int, int]:
    """Of all before the last answer that is learned, of that answer without white space, and of the whole."""
    conversation, (last, answer) = record.conversation, record.answers[-1]
    whole = hashlib.blake2b(digest_size=8)
    for image in conversation.images:
        whole.update(image.data)
    for tool in conversation.tools:
        whole.update(f"{tool}\0".encode())
    turns = [f"{turn.role}\0{text}\0" for turn, text in zip(conversation.turns, record.texts, strict=True)]
    whole.update("".join(turns[:last]).encode())
    question = int.from_bytes(whole.digest(), "little")
    whole.update("".join(turns[last:]).encode())
    for turn in conversation.turns:
        if turn.role == "assistant":
            whole.update(b"read" if turn.is_context else b"learned")
    return question, digest("".join(answer.split()).encode()), int.from_bytes(whole.digest(), "little")


class Columns:
    """The columns of a whole file. Close it, or use it in a `with` statement."""

    def __init__(self) -> None:
        self._files: dict[str, IO[bytes]] = {name: tempfile.TemporaryFile() for name in TYPES}  # noqa: SIM115
        self._mapped: dict[str, Any] = {}
        self.num_rows = 0

    def append(self, part: Mapping[str, bytes], lines_before: int) -> None:
        for name, data in part.items():
            if name == "line":
                lines = array("Q", data)
                self.num_rows += len(lines)
                data = array("Q", (line + lines_before for line in lines)).tobytes()
            self._files[name].write(data)

    def __getitem__(self, name: str) -> Sequence[int]:
        """The column, once all parts are there."""
        if name not in self._mapped:
            file = self._files[name]
            file.flush()
            size = file.tell()
            mapped = mmap.mmap(file.fileno(), size) if size else b""
            self._mapped[name] = memoryview(mapped).cast(TYPES[name])
        column: Sequence[int] = self._mapped[name]
        return column

    @property
    def has_bands(self) -> bool:
        return len(self["bands"]) == NUM_BANDS * self.num_rows > 0

    def close(self) -> None:
        self._mapped.clear()
        for file in self._files.values():
            file.close()

    def __enter__(self) -> "Columns":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scratch(num_rows: int) -> MutableSequence[int]:
    """Room for one number a row, zeros first, that the system can put aside."""
    if not num_rows:
        return array("Q")
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * num_rows)
        numbers: Any = memoryview(mmap.mmap(file.fileno(), 8 * num_rows)).cast("Q")
    return numbers  # type: ignore[no-any-return]


def first_rows(values: Sequence[int]) -> Sequence[int]:
    """For each row the first row with the same value, itself where there is none before it."""
    firsts = scratch(len(values))
    turns = 1 + len(values) // TABLE_ROWS
    for turn in range(turns):
        seen: dict[int, int] = {}
        for row, value in enumerate(values):
            if turns == 1 or value % turns == turn:
                firsts[row] = seen.setdefault(value, row)
    return firsts
