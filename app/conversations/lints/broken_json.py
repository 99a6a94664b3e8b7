"""An answer that was cut or is no JSON where the other answers are."""

from collections import Counter

from app.conversations.lints.comparison import Comparison, Judge, Seen, nothing
from app.conversations.lints.json_answers import BROKEN, JSON, TEXT
from app.conversations.lints.kinds import JSON_SHARE, JSON_SHARE_STRICT


def judge(files: Comparison) -> Judge:
    states = files.columns["json"]
    counts = Counter(states)
    share = counts[JSON] / max(1, counts[JSON] + counts[BROKEN] + counts[TEXT])
    if share < JSON_SHARE or counts[JSON] < 2:
        return nothing

    def look(row: int) -> Seen | None:
        if states[row] == BROKEN:
            return Seen(f"The answer begins as JSON but is not, as {share:.0%} of the answers are.")
        if states[row] == TEXT and share >= JSON_SHARE_STRICT:
            return Seen(f"The answer is not JSON, as {share:.0%} of the answers are.")
        return None

    return look
