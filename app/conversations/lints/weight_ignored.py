"""A turn that its file wants left out of the loss, by `"weight": 0` as OpenAI writes it."""

from collections.abc import Iterator

from app.conversations.findings import Finding
from app.conversations.lints.record import Record


def find(record: Record) -> Iterator[Finding]:
    if b'"weight"' not in record.raw or not isinstance(record.value, dict):
        return
    turns = record.value.get("messages")
    for place, turn in enumerate(turns if isinstance(turns, list) else ()):
        is_answer = isinstance(turn, dict) and turn.get("role") == "assistant" and place < len(record.texts)
        if is_answer and turn.get("weight") == 0 and turn.get("weight") is not False:
            yield record.finding("weight_ignored", place, "The turn has weight 0 and is trained all the same.")
