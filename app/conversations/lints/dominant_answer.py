"""One answer that so many records have that always giving it pays."""

from collections import Counter

from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing
from app.conversations.lints.kinds import DOMINANT_SHARE, LEAST_FOR_SHARES


def judge(files: Comparison) -> Judge:
    """Said once, at the first record with that answer."""
    answers = files.columns["answer"]
    if files.num_rows < LEAST_FOR_SHARES:
        return nothing
    answer, number = Counter(answers[:: 1 + files.num_rows // 1_000_000]).most_common(1)[0]
    share = number / len(answers[:: 1 + files.num_rows // 1_000_000])
    if share < DOMINANT_SHARE:
        return nothing
    first = next(row for row, one in enumerate(answers) if one == answer)
    message = f"{share:.0%} of the records have this answer."
    return lambda row: Seen(message) if row == first else None
