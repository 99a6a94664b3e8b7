"""Which earlier record each one is nearly the same as. A bucket of a band is compared with its first and its newest."""

from collections.abc import Iterator, Sequence

from app.conversations.lints.columns import scratch
from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing
from app.conversations.lints.near_duplicate import AGREEING_BANDS, NUM_BANDS, agreeing, are_near
from app.conversations.lints.record import Record

# Full comparisons of a record with others that turn out not to be near; enough where buckets are small.
TRIES = 3
TABLE_ROWS = 250_000


def judge(files: Comparison) -> Judge:
    if not files.columns.has_bands:
        return nothing
    near = _near_rows(files)

    def look(row: int) -> Seen | None:
        if not near[row]:
            return None
        other = near[row] - 1
        return Seen(f"Nearly the same as line {files.line(other)}.", other, 0)

    return look


def _near_rows(files: Comparison) -> Sequence[int]:
    """For each row the number of its near row, from 1, else 0. Rows with another fault of that sort have none."""
    near, tries = scratch(files.num_rows), bytearray(files.num_rows)
    told: set[tuple[int, int]] = set()
    values = files.columns["bands"]
    for row, other in _candidates(values, files.num_rows):
        if near[row] or tries[row] >= TRIES or (row, other) in told or _is_told_otherwise(files, row):
            continue
        if agreeing(values, row, other) < AGREEING_BANDS:
            continue
        one, earlier = files.record(row), files.record(other)
        if _have_same_images(one, earlier) and are_near(one.until_answer, earlier.until_answer, files.frame):
            near[row] = other + 1
        else:
            tries[row] += 1
            told.add((row, other))
    return near


def _candidates(values: Sequence[int], num_rows: int) -> Iterator[tuple[int, int]]:
    """(row, an earlier row in the same bucket of a band)."""
    turns = 1 + num_rows // TABLE_ROWS
    for band in range(NUM_BANDS):
        column = values[band::NUM_BANDS]
        for turn in range(turns):
            first: dict[int, int] = {}
            newest: dict[int, int] = {}
            for row, value in enumerate(column):
                if not value or (turns > 1 and value // 2 % turns != turn):
                    continue
                if value in first:
                    yield row, first[value]
                    if value in newest:
                        yield row, newest[value]
                    newest[value] = row
                else:
                    first[value] = row


def _have_same_images(one: Record, other: Record) -> bool:
    return [image.data for image in one.conversation.images] == [image.data for image in other.conversation.images]


def _is_told_otherwise(files: Comparison, row: int) -> bool:
    return files.first_whole[row] != row or files.first_question[row] != row
