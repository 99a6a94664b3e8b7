"""Which records ask the same, in identical words or nearly so, and what sort of answer each has."""

from collections.abc import Sequence
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path

import msgspec

from app.conversations.lints.asked import TRIES, Asked, Index, asked_of
from app.conversations.lints.kinds import FRAME_SAMPLE
from app.conversations.lints.near_duplicate import frame_of
from app.conversations.reader import valid_conversations
from app.conversations.records import Conversation

# What stands in an answer as JSON; a quoted text, true, false and null count as text.
KINDS: dict[type, str] = {dict: "object", list: "list", int: "number", float: "number"}


def question_groups(paths: Sequence[Path]) -> list[list[int]]:
    """For each valid record of each file a number that all records have which ask the same, in whichever file.

    Two ask the same where training on one would give the other away, as the finding `leakage` has it: what one asks at
    last the other asks before any of its answers.
    """
    by_line = attrgetter("line")
    files = [[list(one) for _, one in groupby(asked_of(path, every=True), by_line)] for path in paths]
    records = list(chain.from_iterable(files))
    numbers = iter(groups_of(records, frame_of(record[-1].texts for record in records[:FRAME_SAMPLE])))
    return [list(islice(numbers, len(one))) for one in files]


def groups_of(records: Sequence[Sequence[Asked]], frame: frozenset[str]) -> list[int]:
    """For each record, given by its questions in order, the first record of its group."""
    first = list(range(len(records)))
    exact: dict[int, int] = {}
    index = Index(frame)
    for row, record in enumerate(records):
        keys = index.keys(record[-1])
        if not record[-1].is_nothing:
            _join(first, row, exact.setdefault(record[-1].exact, row))
        _join_near(first, row, record[-1], records, index, keys)
        index.add(row, keys)
    for row, record in enumerate(records):
        for asked in record[:-1]:
            _join(first, row, exact.get(asked.exact, row))
            _join_near(first, row, asked, records, index, index.keys(asked))
    return [_root(first, row) for row in range(len(records))]


def _join_near(
    first: list[int],
    row: int,
    asked: Asked,
    records: Sequence[Sequence[Asked]],
    index: Index,
    keys: Sequence[int],
) -> None:
    """Join the row with those whose last question is nearly this one."""
    tries = 0
    for other in index.candidates(keys):
        if _root(first, other) == _root(first, row):
            continue
        if index.are_near(asked, records[other][-1]):
            _join(first, row, other)
        elif (tries := tries + 1) == TRIES:
            return


def _root(first: list[int], row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = first[row]
    return row


def _join(first: list[int], row: int, other: int) -> None:
    low, high = sorted((_root(first, row), _root(first, other)))
    first[high] = low


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
