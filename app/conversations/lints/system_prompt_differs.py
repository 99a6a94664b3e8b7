"""A system prompt that is not the one of most records; no prompt counts as one."""

from collections import Counter

from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing

MOST = 0.5


def judge(files: Comparison) -> Judge:
    """Each record that differs from more than half of the others; without such a majority, the first line alone."""
    prompts = files.columns["system"]
    counts = Counter(prompts)
    if len(counts) < 2:
        return nothing
    main, number = counts.most_common(1)[0]
    if number <= MOST * files.num_rows:
        message = f"The records have {len(counts):,} different system prompts."
        return lambda row: None if row else Seen(message, None, 0)

    def look(row: int) -> Seen | None:
        if prompts[row] == main:
            return None
        what = "There is no system prompt" if not prompts[row] else "The system prompt is another"
        rest = "have none" if not main else "share one"
        return Seen(f"{what}; {number:,} of {files.num_rows:,} records {rest}.", None, 0)

    return look
