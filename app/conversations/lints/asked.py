"""What a record asks, and which questions are nearly the same (MinHash, then by word)."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from app.conversations.lints.kinds import NEAR_SHARE
from app.conversations.lints.near_duplicate import AGREEING_BANDS, NUM_BANDS, bands, triples
from app.conversations.lints.record import digest, text_of
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation, Image, Line

# Of a bucket so many questions are kept, and for a question so many comparisons made that find nothing.
MOST_OF_BUCKET, TRIES = 64, 3


class Asked(NamedTuple):
    """What a record asks: the texts before an answer without the system prompt, and their hash with the images.

    Case and white space make no other question. `line` and `end` are those of the record.
    """

    line: int
    end: int
    exact: int
    texts: tuple[str, ...]
    images: tuple[int, ...]

    @property
    def is_nothing(self) -> bool:
        """Such records ask nothing alike: their answers come first."""
        return not self.images and not any(text.strip() for text in self.texts)


class Index:
    """Questions under numbers, found again by nearly the same words; those too short to be compared are not kept."""

    def __init__(self, frame: frozenset[str]) -> None:
        self._frame = frame
        self._buckets: defaultdict[int, list[int]] = defaultdict(list)

    def keys(self, asked: Asked) -> list[int]:
        """A number for each band with its value; none where the texts are too short to be compared."""
        values = bands(asked.texts, self._frame)
        return [value * NUM_BANDS + band for band, value in enumerate(values)] if values[0] else []

    def add(self, number: int, keys: Sequence[int]) -> None:
        for key in keys:
            if len(bucket := self._buckets[key]) < MOST_OF_BUCKET:
                bucket.append(number)

    def candidates(self, keys: Sequence[int]) -> list[int]:
        """The numbers of those that agree in enough bands, the likeliest first."""
        agreeing: Counter[int] = Counter()
        for key in keys:
            agreeing.update(self._buckets.get(key, ()))
        return [number for number, times in agreeing.most_common() if times >= AGREEING_BANDS]

    def are_near(self, one: Asked, other: Asked) -> bool:
        mine, theirs = triples(one.texts, self._frame), triples(other.texts, self._frame)
        return one.images == other.images and len(mine & theirs) >= NEAR_SHARE * len(mine | theirs)


def asked_of(path: Path, every: bool = False) -> Iterator[Asked]:
    """What each valid record asks at last, or before every answer."""
    for line, found in read_conversations(path):
        if isinstance(found, Conversation):
            yield from _asked(line, found, every)


def _asked(line: Line, conversation: Conversation, every: bool) -> Iterator[Asked]:
    texts: list[str] = []
    images: list[int] = []
    for place, turn in enumerate(conversation.turns):
        if turn.role == "assistant" and (every or place == len(conversation.turns) - 1):
            words = "\0".join(" ".join(text.casefold().split()) for text in texts)
            exact = digest(f"{words}\0{images}".encode())
            yield Asked(line.number, line.end, exact, tuple(texts), tuple(images))
        if turn.role != "system":
            texts.append(text_of(turn))
        images += [digest(part.data) for part in turn.content if isinstance(part, Image)]
