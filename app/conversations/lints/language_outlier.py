"""A record in another language than nearly all others."""

from collections import Counter

from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing
from app.conversations.lints.kinds import LEAST_FOR_SHARES, MAIN_LANGUAGE_SHARE
from app.conversations.lints.language_of import LANGUAGES


def judge(files: Comparison) -> Judge:
    languages = files.columns["language"]
    counts = Counter(languages)
    del counts[0]
    if not counts or counts.total() < LEAST_FOR_SHARES:
        return nothing
    main, number = counts.most_common(1)[0]
    share = number / counts.total()
    if share < MAIN_LANGUAGE_SHARE:
        return nothing

    def look(row: int) -> Seen | None:
        found = languages[row]
        if found in (0, main):
            return None
        return Seen(
            f"The language looks like '{LANGUAGES[found]}'; {share:.0%} of the records are '{LANGUAGES[main]}'."
        )

    return look
