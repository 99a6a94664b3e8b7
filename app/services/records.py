"""One record as it is trained: raw, normalized, rendered, and every token with its part. The same code that trains."""

import base64
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from app.conversations.normalize import normalize, with_system_prompt
from app.conversations.preview import preview
from app.conversations.reader import read_lines
from app.conversations.records import Conversation, Image, Line, Rejected
from app.conversations.render import Renderer
from app.errors import NotFound


@lru_cache(maxsize=4)
def _renderer(folder: Path) -> Renderer:
    return Renderer.load(folder)


def show(path: Path, line: int, tokenizer_folder: Path, system_prompt: str, max_length: int) -> dict[str, Any]:
    """What the contract shows of a record; a line that cannot be trained has its raw text alone."""
    found = _find(path, line)
    if found is None:
        raise NotFound(f"The dataset has no record on line {line}.")
    raw, conversation = found
    shown: dict[str, Any] = {"line": line, "raw": raw.raw.decode("utf-8", "replace")}
    if isinstance(conversation, Rejected):
        return shown | {"conversation": None, "text": None, "tokens": []}
    conversation, _ = with_system_prompt(conversation, system_prompt)
    renderer = _renderer(tokenizer_folder)
    tokens = preview(renderer, renderer.encode(conversation), max_length)
    return shown | {"conversation": _turns(conversation), "text": renderer.text(conversation), "tokens": tokens}


def _find(path: Path, line: int) -> tuple[Line, Conversation | Rejected] | None:
    """The record of a line. Reads up to it, lines have no index yet, but only this one is normalized."""
    upto = takewhile(lambda one: one.number <= line, read_lines(path))
    found = next((one for one in upto if one.number == line), None)
    if found is None:
        return None
    try:
        return found, found.error or normalize(found.value)
    except Rejected as error:
        return found, error


def _turns(conversation: Conversation) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": [_part(part) for part in turn.content]} for turn in conversation.turns]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Image):
        # Browsers look at the bytes themselves; any image type does.
        return {"type": "image", "image": f"data:image/png;base64,{base64.b64encode(part.data).decode()}"}
    return {"type": "text", "text": part.text}
