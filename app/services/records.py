"""One record as it is trained: raw, normalized, rendered, and every token with its part. The same code that trains."""

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.normalize import normalize, with_system_prompt
from app.conversations.preview import preview
from app.conversations.reader import find_line
from app.conversations.records import Conversation, Image, Rejected
from app.conversations.render import Renderer
from app.errors import NotFound


@lru_cache(maxsize=4)
def _renderer(folder: Path) -> Renderer:
    return Renderer.load(folder)


def show(path: Path, line: int, tokenizer_folder: Path, system_prompt: str, max_length: int) -> dict[str, Any]:
    """What the contract shows of a record; a line that cannot be trained has its raw text alone."""
    found = find_line(path, line)
    if found is None:
        raise NotFound(f"The dataset has no record on line {line}.")
    shown: dict[str, Any] = {"line": line, "raw": found.raw.decode("utf-8", "replace")}
    renderer = _renderer(tokenizer_folder)
    try:
        if found.error:
            raise found.error
        conversation, _ = with_system_prompt(normalize(found.value), system_prompt)
        tokens = preview(renderer, renderer.encode(conversation), max_length)
        return shown | {"conversation": _turns(conversation), "text": renderer.text(conversation), "tokens": tokens}
    except Rejected:
        return shown | {"conversation": None, "text": None, "tokens": []}


def _turns(conversation: Conversation) -> list[dict[str, Any]]:
    return [
        {"role": turn.role, "content": [_part(part) for part in turn.content]}
        | ({"tool_calls": [msgspec.to_builtins(call) for call in turn.calls]} if turn.calls else {})
        for turn in conversation.turns
    ]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Image):
        # Browsers look at the bytes themselves; any image type does.
        return {"type": "image", "image": f"data:image/png;base64,{base64.b64encode(part.data).decode()}"}
    return {"type": "text", "text": part.text}
