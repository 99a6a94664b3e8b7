"""Whether the answers of a record are JSON, as a number that a column can hold."""

from app.conversations.lints.record import Record
from app.conversations.parse_text import is_json, without_fence

TEXT, JSON, BROKEN, NEITHER = range(4)  # BROKEN begins like JSON; NEITHER has a fault of its own and does not count


def json_state(record: Record) -> int:
    """Of the worst answer: BROKEN, then TEXT, then JSON."""
    states = {state_of(text) for _, text in record.answers}
    return next((state for state in (BROKEN, TEXT, JSON) if state in states), NEITHER)


def state_of(text: str) -> int:
    if "<think>" in text:
        text = text.partition("</think>")[2]
        if not text.strip():
            return NEITHER
    plain = without_fence(text).strip()
    if plain[:1] in ("{", "["):
        return JSON if is_json(plain) else BROKEN
    return JSON if plain[:1] in '"-0123456789tfn' and is_json(plain) else TEXT
