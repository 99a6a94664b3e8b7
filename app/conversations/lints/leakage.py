"""A validation record whose question is also trained on, in the same words or nearly so (MinHash, then by word)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.conversations.findings import Finding
from app.conversations.lints.asked import TRIES, Asked, Index, asked_of
from app.conversations.lints.kinds import FRAME_SAMPLE
from app.conversations.lints.near_duplicate import frame_of
from app.conversations.lints.record import Record
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation

# About so many bytes of memory are given to validation records at once; those beyond go in further turns.
ROOM = 100_000_000
OF_RECORD, OF_BANDS = 250, 3000

OnShare = Callable[[float], None]


class Trained(NamedTuple):
    """A file that is trained on, and how findings call it."""

    path: Path
    name: str = "the training data"
    dataset: int | None = None


class Leak(NamedTuple):
    """Where a question is trained on, and whether it only nearly is."""

    line: int
    file: Trained
    is_near: bool


def find(trained: Sequence[Trained], validation: Path, on_share: OnShare = lambda share: None) -> Iterator[Finding]:
    """Findings at the lines of `validation`, in order; `other_line` is a line of the file that is named.

    A record leaks where what stands before its last answer stands before any answer of a training record. The files
    are compared before this returns.
    """
    return _findings(validation, _leaks(trained, validation, on_share))


def _findings(validation: Path, leaks: dict[int, Leak]) -> Iterator[Finding]:
    for line, found in read_conversations(validation) if leaks else ():
        if isinstance(found, Conversation) and (leak := leaks.get(line.number)) is not None:
            yield _finding(Record.of(line, found), leak)


def _leaks(trained: Sequence[Trained], validation: Path, on_share: OnShare) -> dict[int, Leak]:
    """The leaks by the lines of `validation`."""
    samples = (islice(asked_of(path), FRAME_SAMPLE) for path in (validation, *(file.path for file in trained)))
    frame = frame_of(asked.texts for asked in chain.from_iterable(samples))
    records, size, before = asked_of(validation), max(1, validation.stat().st_size), 0
    leaks: dict[int, Leak] = {}
    while wanted := Wanted(records, frame):
        step = (wanted.end - before) / size / len(trained)
        for number, file in enumerate(trained):
            begun, length = before / size + number * step, max(1, file.path.stat().st_size)
            for asked in asked_of(file.path, every=True):
                wanted.compare(asked, file)
                on_share(begun + step * asked.end / length)
        leaks |= wanted.leaks
        before = wanted.end
    return leaks


def _finding(record: Record, leak: Leak) -> Finding:
    turn = next((place for place, one in enumerate(record.conversation.turns) if one.role != "system"), 0)
    what = "nearly the same question" if leak.is_near else "the same question"
    found = record.finding("leakage", turn, f"Line {leak.line} of {leak.file.name} has {what}.")
    return msgspec.structs.replace(found, other_line=leak.line, other_dataset=leak.file.dataset)


class Wanted:
    """The next validation records, as many as there is room for, found again by what they ask."""

    def __init__(self, records: Iterator[Asked], frame: frozenset[str]) -> None:
        self.end = 0
        self.leaks: dict[int, Leak] = {}  # by line
        self._same: defaultdict[int, list[int]] = defaultdict(list)  # lines by the hash of what they ask
        self._compared: dict[int, Asked] = {}  # those in the index, by line
        self._index = Index(frame)
        self._num_records = room = 0
        while room < ROOM and (asked := next(records, None)):
            room += OF_RECORD + self._add(asked)

    def __len__(self) -> int:
        return self._num_records

    def _add(self, asked: Asked) -> int:
        """Returns about how much memory its bands take."""
        self._num_records += 1
        self.end = asked.end
        if not asked.is_nothing:
            self._same[asked.exact].append(asked.line)
        if not (keys := self._index.keys(asked)):
            return 0
        self._index.add(asked.line, keys)
        self._compared[asked.line] = asked
        return OF_BANDS + 2 * sum(map(len, asked.texts))

    def compare(self, trained: Asked, file: Trained) -> None:
        """Remember which of the records ask the same as this one."""
        for line in self._same.pop(trained.exact, ()):
            self.leaks[line] = Leak(trained.line, file, is_near=False)
        tries = 0
        for line in self._index.candidates(self._index.keys(trained)) if self._compared else ():
            if line in self.leaks:
                continue
            if self._index.are_near(self._compared[line], trained):
                self.leaks[line] = Leak(trained.line, file, is_near=True)
            elif (tries := tries + 1) == TRIES:
                return
