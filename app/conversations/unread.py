"""A place of a file that could not be read, as a line of its own among those that were unpacked.

Such a line is an object with the keys below and none that a shape has, so it is a finding wherever it is read.
"""

import json
from typing import Any

from app.conversations.records import Rejected

KEY, TEXT = "__unread__", "__text__"
KEPT = 4096
KINDS = ("not_json", "wrong_shape")


def unread_line(kind: str, message: str, text: str | bytes) -> bytes:
    """`kind` is one of KINDS; of the text so much is kept as a finding shows."""
    shown = text[:KEPT].decode("utf-8", "replace") if isinstance(text, bytes) else text[:KEPT]
    plain = shown.encode("utf-8", "replace").decode()
    return json.dumps({KEY: [kind, message], TEXT: plain}, ensure_ascii=False).encode()


def unread_reason(value: dict[str, Any]) -> Rejected | None:
    """Why there is no record, where the object is such a line."""
    match value:
        case {"__unread__": [str(kind), str(message)], "__text__": str(text)} if kind in KINDS:
            return Rejected(kind, message, "", text)
    return None
