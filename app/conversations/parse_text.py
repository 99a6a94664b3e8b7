"""JSON inside texts."""

import json
import re

import msgspec

FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
BRACKET = re.compile(r"(?:^|[\s.:])([{\[])")
TRIES = 20
DECODER = msgspec.json.Decoder()


def is_json(text: str) -> bool:
    try:
        DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _is_json_slowly(text)
    return True


def _is_json_slowly(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def without_fence(text: str) -> str:
    """What stands inside ```json and ```, or the text itself."""
    found = FENCE.match(text) if "```" in text else None
    return found[1] if found else text


def json_tail(text: str) -> int | None:
    """Where JSON starts that goes to the text's end, or None."""
    for found, _ in zip(BRACKET.finditer(text), range(TRIES), strict=False):
        if is_json(text[found.start(1) :]):
            return found.start(1)
    return None
