"""Which records ask the same: identical questions, and those that differ in a few words."""

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import msgspec

from app.conversations.lints.columns import digest
from app.conversations.lints.kinds import FRAME_SAMPLE, NEAR_SHARE
from app.conversations.lints.near_duplicate import NUM_BANDS, bands, frame_of, triples
from app.conversations.reader import valid_conversations
from app.conversations.records import Conversation

# What stands in an answer as JSON; a quoted text, true, false and null count as text.
KINDS: dict[type, str] = {dict: "object", list: "list", int: "number", float: "number"}


def question_groups(paths: Sequence[Path]) -> list[list[int]]:
    """For each valid record of each file a number that all records have which ask the same, in whichever file."""
    asked = [[_asked(conversation) for _, conversation in valid_conversations(path)] for path in paths]
    questions = list(chain.from_iterable(asked))
    numbers = iter(groups_of(questions, frame_of([one] for one in questions[:FRAME_SAMPLE])))
    return [list(islice(numbers, len(one))) for one in asked]


def strata(path: Path) -> list[str]:
    """For each valid record what its last answer is (a call, a JSON object, a list, text, …), with images or not."""
    return [_stratum(conversation) for _, conversation in valid_conversations(path)]


def _stratum(conversation: Conversation) -> str:
    answer = next((turn for turn in reversed(conversation.turns) if turn.role == "assistant"), None)
    kind = "none" if answer is None else "call" if answer.calls else _kind(answer.text)
    return f"{kind}, with images" if conversation.images else kind


def _kind(text: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return "text"
    return KINDS.get(type(value), "text")


def groups_of(questions: Sequence[str], frame: frozenset[str]) -> list[int]:
    first = list(range(len(questions)))
    exact: dict[str, int] = {}
    buckets: dict[tuple[int, int], int] = {}
    for row, question in enumerate(questions):
        _join(first, row, exact.setdefault(" ".join(question.casefold().split()), row))
        hashed = bands([question], frame)
        for band in range(NUM_BANDS if hashed[0] else 0):
            other = buckets.setdefault((band, hashed[band]), row)
            if _root(first, other) != _root(first, row) and _are_near(question, questions[other], frame):
                _join(first, row, other)
    return [_root(first, row) for row in range(len(questions))]


def _asked(conversation: Conversation) -> str:
    """All that is not learned; an image counts as a word of its own."""
    asked = [turn.text for turn in conversation.turns if turn.role != "assistant"]
    return "\n".join([*asked, *(f"image-{digest(image.data)}" for image in conversation.images)])


def _are_near(one: str, other: str, frame: frozenset[str]) -> bool:
    mine, theirs = triples([one], frame), triples([other], frame)
    return len(mine & theirs) >= NEAR_SHARE * len(mine | theirs)


def _root(first: list[int], row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = first[row]
    return row


def _join(first: list[int], row: int, other: int) -> None:
    low, high = sorted((_root(first, row), _root(first, other)))
    first[high] = low
