"""A validation record whose question is also trained on, in the same words or nearly so (MinHash, then by word)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.conversations.findings import Finding
from app.conversations.lints.columns import digest
from app.conversations.lints.kinds import FRAME_SAMPLE, NEAR_SHARE
from app.conversations.lints.near_duplicate import AGREEING_BANDS, bands, frame_of, triples
from app.conversations.lints.record import Record
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation

# Validation records looked for at once, some 3 kB of memory each and twice their text; more go in several turns.
MOST_AT_ONCE, MOST_CHARACTERS = 20_000, 20_000_000
# Of a bucket no more rows are kept, and of a training record no more comparisons made that find nothing.
MOST_OF_BUCKET, TRIES = 64, 3

OnShare = Callable[[float], None]


class Trained(NamedTuple):
    """A file that is trained on, and how findings call it."""

    path: Path
    name: str = "the training data"
    dataset: int | None = None


class Asked(NamedTuple):
    """What a record asks: the texts before its last answer without the system prompt, and their hash with the images.

    Case and white space make no other question.
    """

    line: int
    end: int
    exact: int
    texts: tuple[str, ...]
    images: tuple[int, ...]


def find(trained: Sequence[Trained], validation: Path, on_share: OnShare = lambda share: None) -> Iterator[Finding]:
    """Findings at the lines of `validation`, in order; `other_line` is a line of the file that is named."""
    frame = frame_of(asked.texts for asked, _ in islice(_asked(validation), FRAME_SAMPLE))
    records, size, before = _asked(validation), max(1, validation.stat().st_size), 0
    while wanted := Wanted(records, frame):
        step = (wanted.end - before) / size / len(trained)
        for number, file in enumerate(trained):
            begun, length = before / size + number * step, max(1, file.path.stat().st_size)
            for asked, _ in _asked(file.path):
                wanted.compare(asked, file)
                on_share(begun + step * asked.end / length)
        yield from wanted.findings()
        before = wanted.end


class Wanted:
    """The next validation records, as many as are looked for at once, found again by what they ask."""

    def __init__(self, records: Iterator[tuple[Asked, Record]], frame: frozenset[str]) -> None:
        self._frame, self.end = frame, 0
        self._asked: list[Asked] = []
        self._shown: list[Finding] = []
        self._found: dict[int, Finding] = {}
        self._exact: defaultdict[int, list[int]] = defaultdict(list)
        self._buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        num_characters = 0
        while len(self) < MOST_AT_ONCE and num_characters < MOST_CHARACTERS and (one := next(records, None)):
            self._add(*one)
            num_characters += sum(map(len, one[0].texts))

    def __len__(self) -> int:
        return len(self._asked)

    def _add(self, asked: Asked, record: Record) -> None:
        turn = next((place for place, one in enumerate(record.conversation.turns) if one.role != "system"), 0)
        self._exact[asked.exact].append(len(self))
        for key in self._keys(asked):
            if len(bucket := self._buckets[key]) < MOST_OF_BUCKET:
                bucket.append(len(self))
        self._shown.append(record.finding("leakage", turn, ""))
        self._asked.append(asked)
        self.end = asked.end

    def compare(self, trained: Asked, file: Trained) -> None:
        """Remember which of the records ask the same as this one."""
        for row in self._exact.pop(trained.exact, ()):
            self._tell(row, trained.line, file, "the same question")
        tries = 0
        for row in self._candidates(trained):
            if self._is_near(self._asked[row], trained):
                self._tell(row, trained.line, file, "nearly the same question")
            elif (tries := tries + 1) == TRIES:
                return

    def findings(self) -> Iterator[Finding]:
        for row in sorted(self._found):
            yield self._found[row]

    def _keys(self, asked: Asked) -> Iterator[tuple[int, int]]:
        values = bands(asked.texts, self._frame)
        return enumerate(values) if values[0] else iter(())

    def _candidates(self, trained: Asked) -> list[int]:
        """Rows that agree in enough bands and were not found before, the likeliest first."""
        agreeing: Counter[int] = Counter()
        for key in self._keys(trained):
            agreeing.update(self._buckets.get(key, ()))
        return [row for row, number in agreeing.most_common() if number >= AGREEING_BANDS and row not in self._found]

    def _is_near(self, one: Asked, other: Asked) -> bool:
        mine, theirs = triples(one.texts, self._frame), triples(other.texts, self._frame)
        return one.images == other.images and len(mine & theirs) >= NEAR_SHARE * len(mine | theirs)

    def _tell(self, row: int, line: int, file: Trained, what: str) -> None:
        message = f"Line {line} of {file.name} has {what}."
        told = {"message": message, "other_line": line, "other_dataset": file.dataset}
        self._found[row] = msgspec.structs.replace(self._shown[row], **told)


def _asked(path: Path) -> Iterator[tuple[Asked, Record]]:
    for line, found in read_conversations(path):
        if isinstance(found, Conversation):
            record = Record.of(line, found)
            turns = zip(found.turns[:-1], record.texts, strict=False)
            texts = tuple(text for turn, text in turns if turn.role != "system")
            images = tuple(digest(image.data) for image in found.images)
            words = "\0".join(" ".join(text.casefold().split()) for text in texts)
            yield Asked(line.number, line.end, digest(f"{words}\0{images}".encode()), texts, images), record
