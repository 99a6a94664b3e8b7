"""Turns in an order in which the model will not meet them."""

from collections.abc import Iterator

from app.conversations.findings import Finding
from app.conversations.lints.record import Record

USUAL = {
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def find(record: Record) -> Iterator[Finding]:
    before = "the start"
    for place, turn in enumerate(record.conversation.turns):
        wanted = ("system", "user") if place == 0 else USUAL[before]
        if turn.role not in wanted:
            yield record.finding("role_order", place, f"The {turn.role} turn follows {_shown(before)}.")
            return
        before = turn.role


def _shown(before: str) -> str:
    return before if before == "the start" else f"the {before} turn"
