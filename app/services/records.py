"""One record as it is trained: raw, normalized, rendered, and every token with its part. The same code that trains."""

import base64
import io
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.images import open_rgb
from app.conversations.normalize import normalize, with_system_prompt
from app.conversations.preview import preview
from app.conversations.reader import conversation_of, find_line
from app.conversations.records import Conversation, Image, Line, Rejected, Text
from app.conversations.render import Renderer
from app.errors import NotFound

SHOWN_FORMATS = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


@lru_cache(maxsize=4)
def _renderer(folder: Path) -> Renderer:
    return Renderer.load(folder)


def show(
    path: Path,
    line: int,
    tokenizer_folder: Path,
    system_prompt: str,
    max_length: int,
    images_at: str | None = None,
) -> dict[str, Any]:
    """What the contract shows of a record; a line that cannot be trained has its raw text alone.

    Images stand in it as data URIs, or as addresses `images_at`/0, /1, ... where that is given.
    """
    found = _line(path, line)
    shown: dict[str, Any] = {"line": line, "raw": found.raw.decode("utf-8", "replace")}
    renderer = _renderer(tokenizer_folder)
    try:
        if found.error:
            raise found.error
        conversation, _ = with_system_prompt(normalize(found.value), system_prompt)
        tokens = preview(renderer, renderer.encode(conversation), max_length)
        return shown | {
            "conversation": _turns(conversation, images_at),
            "text": renderer.text(conversation),
            "tokens": tokens,
        }
    except Rejected:
        return shown | {"conversation": None, "text": None, "tokens": []}


def _line(path: Path, line: int) -> Line:
    found = find_line(path, line)
    if found is None:
        raise NotFound(f"The dataset has no record on line {line}.")
    return found


def picture(path: Path, line: int, number: int) -> tuple[bytes, str]:
    """(bytes, media type) of an image of a record, counted from 0; as PNG where browsers do not all know its format."""
    found = conversation_of(_line(path, line))
    images = found.images if isinstance(found, Conversation) else ()
    if number >= len(images):
        raise NotFound(f"Line {line} has no image {number}.")
    data = images[number].data
    if kind := next((kind for magic, kind in SHOWN_FORMATS.items() if data.startswith(magic)), None):
        return data, kind
    as_png = io.BytesIO()
    open_rgb(data).save(as_png, "PNG")
    return as_png.getvalue(), "image/png"


def _turns(conversation: Conversation, images_at: str | None) -> list[dict[str, Any]]:
    numbers = count()
    return [
        {"role": turn.role, "content": [_part(part, images_at, numbers) for part in turn.content]}
        | ({"tool_calls": [msgspec.to_builtins(call) for call in turn.calls]} if turn.calls else {})
        | ({"weight": 0} if turn.is_context else {})
        for turn in conversation.turns
    ]


def _part(part: Text | Image, images_at: str | None, numbers: Iterator[int]) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if images_at is None:
        # Browsers look at the bytes themselves; any image type does.
        return {"type": "image", "image": f"data:image/png;base64,{base64.b64encode(part.data).decode()}"}
    size = {"width": part.width, "height": part.height}
    return {"type": "image", "image": f"{images_at}/{next(numbers)}", **size}
