"""Tokens as a person sees them: each with its text and what becomes of it."""

from typing import Any

from app.conversations.encoded import Encoded
from app.conversations.render import Renderer
from app.conversations.truncate import Truncation, kept_window

# A character has at most four bytes, so no more than four byte-level tokens.
TOKENS_OF_A_CHARACTER = 4


def preview(renderer: Renderer, encoded: Encoded, max_length: int, mode: Truncation = "drop") -> list[dict[str, Any]]:
    """{"id", "text", "role"} of each token; role is target, context, image, or cut where `max_length` ends.

    The texts joined are the decoded text: a character of several tokens stands at its last one. With "drop" the
    tokens behind `max_length` are marked, which shows by how much an example is too long.
    """
    start, end = kept_window(len(encoded.ids), max_length, mode) or (0, max_length)
    roles = [role if start <= place < end else "cut" for place, role in enumerate(encoded.roles)]
    texts = token_texts(renderer, encoded.ids)
    return [
        {"id": number, "text": text, "role": role} for number, text, role in zip(encoded.ids, texts, roles, strict=True)
    ]


def token_texts(renderer: Renderer, ids: list[int]) -> list[str]:
    """The text of each token; "" for one that holds a part of a character whose last part comes later."""
    texts: list[str] = []
    waiting: list[int] = []
    for number in ids:
        waiting.append(number)
        text = renderer.decode(waiting)
        if text.endswith("\ufffd") and len(waiting) < TOKENS_OF_A_CHARACTER:
            texts.append("")
            continue
        texts.append(text)
        waiting = []
    if waiting:
        texts[-1] = renderer.decode(waiting)
    return texts
