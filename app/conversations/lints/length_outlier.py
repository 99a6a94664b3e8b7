"""A record far longer than the others."""

import math
from collections.abc import Sequence

from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing
from app.conversations.lints.kinds import LEAST_FOR_SHARES, OUTLIER_SPREADS, OUTLIER_TIMES

SAMPLE = 100_000


def judge(files: Comparison) -> Judge:
    lengths = files.columns["length"]
    if files.num_rows < LEAST_FOR_SHARES:
        return nothing
    usual, limit = limits(lengths)

    def look(row: int) -> Seen | None:
        if lengths[row] <= limit:
            return None
        return Seen(f"{lengths[row]:,} characters; the usual record has {usual:,}.", None, 0)

    return look


def limits(lengths: Sequence[int]) -> tuple[int, float]:
    """(the median, from which length on a record is an outlier), by evenly spread rows."""
    found = sorted(lengths[:: 1 + len(lengths) // SAMPLE])
    low, median, high = (found[len(found) * quarter // 4] for quarter in (1, 2, 3))
    spread = math.log((high + 1) / (low + 1))
    return median, max(high * math.exp(OUTLIER_SPREADS * spread), OUTLIER_TIMES * median, 1)
