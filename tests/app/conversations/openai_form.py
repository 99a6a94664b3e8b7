"""A conversation written in the OpenAI shape, to be read again."""

import base64
import json
from typing import Any

from app.conversations.records import Conversation, Image, Text


def as_messages(conversation: Conversation) -> dict[str, Any]:
    """The conversation in the OpenAI shape, which normalizes to the same one; images are data URIs."""
    messages = []
    for turn in conversation.turns:
        if all(isinstance(item, Text) for item in turn.content) and len(turn.content) == 1:
            message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        else:
            message = {"role": turn.role, "content": [_as_item(item) for item in turn.content] or None}
        if turn.calls:
            calls = [{"name": call.name, "arguments": call.arguments} for call in turn.calls]
            message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
        if turn.is_context:
            message["weight"] = 0
        messages.append(message)
    tools = [json.loads(tool) for tool in conversation.tools]
    return {"messages": messages, "tools": tools} if tools else {"messages": messages}


def _as_item(item: Text | Image) -> dict[str, Any]:
    if isinstance(item, Text):
        return {"type": "text", "text": item.text}
    return {"type": "image", "image": data_uri(item)}


def data_uri(image: Image) -> str:
    """The image as it would stand in a record, under the type that it had there."""
    head, comma, _ = image.source.partition(",")
    kind = head if comma and head.lower().endswith(";base64") else "data:image/png;base64"
    return f"{kind},{base64.b64encode(image.data).decode()}"
