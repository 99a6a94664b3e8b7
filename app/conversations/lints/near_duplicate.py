"""Two records that are the same but for a few characters, found by MinHash and then compared word by word."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any
from zlib import crc32

from app.conversations.lints.kinds import FRAME_SHARE, LEAST_FOR_SHARES, NEAR_LEAST, NEAR_SHARE

# 16 bands of 8: two texts that share 90 % of their triples agree in two bands in 998 of 1,000 cases.
NUM_BANDS, ROWS_OF_BAND = 16, 8
AGREEING_BANDS = 2
SEED = 42
NOTHING = array("I", [0] * NUM_BANDS)
LONG_WORD = 12  # more characters a word than this: a script without spaces
CHARACTERS = 5


def triples(texts: Iterable[str], frame: frozenset[str]) -> set[str]:
    """Every three neighbouring words (five characters where words have no spaces), without those of the frame."""
    found: set[str] = set()
    for text in texts:
        words = text.split()
        if len(text) > LONG_WORD * len(words) and not text.isascii():
            found.update(text[place : place + CHARACTERS] for place in range(len(text) - CHARACTERS + 1))
        else:
            found.update(map(" ".join, zip(words, words[1:], words[2:], strict=False)))
    return found - frame if frame else found


def bands(texts: Iterable[str], frame: frozenset[str]) -> "array[int]":
    """One hash a band; all are 0 where the texts are too short to be compared."""
    found = triples(texts, frame)
    if len(found) < NEAR_LEAST:
        return NOTHING
    sketch = _minhash()(num_perm=NUM_BANDS * ROWS_OF_BAND, seed=SEED)
    sketch.update(list(found))
    data, size = array("I", sketch.digest()).tobytes(), 4 * ROWS_OF_BAND
    return array("I", (crc32(data[place : place + size]) | 1 for place in range(0, len(data), size)))


@cache
def _minhash() -> Any:
    # Loaded where texts are compared: the trainer shares this code, and seldom has to.
    return import_module("rensa").RMinHash


def frame_of(samples: Iterable[Sequence[str]]) -> frozenset[str]:
    """The triples that stand in so many of the records that they say nothing about any of them."""
    counts: Counter[str] = Counter()
    num_samples = 0
    for texts in samples:
        num_samples += 1
        counts.update(triples(texts, frozenset()))
    if num_samples < LEAST_FOR_SHARES:
        return frozenset()
    return frozenset(one for one, count in counts.items() if count >= FRAME_SHARE * num_samples)


def are_near(one: Sequence[str], other: Sequence[str], frame: frozenset[str]) -> bool:
    """Whether the texts, the last of which is the answer, share nearly all their triples, and the answers theirs."""
    mine, theirs = triples(one, frame), triples(other, frame)
    if len(mine & theirs) < NEAR_SHARE * len(mine | theirs):
        return False
    mine, theirs = triples(one[-1:], frozenset()), triples(other[-1:], frozenset())
    if min(len(mine), len(theirs)) < NEAR_LEAST:
        return one[-1].split() == other[-1].split()
    return len(mine & theirs) >= NEAR_SHARE * len(mine | theirs)


def agreeing(values: Sequence[int], row: int, other: int) -> int:
    """In how many bands two rows agree."""
    first, second = row * NUM_BANDS, other * NUM_BANDS
    return sum(values[first + band] == values[second + band] for band in range(NUM_BANDS))
