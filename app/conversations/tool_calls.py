"""Calls of tools and the tools themselves, from the ways in which they are written."""

from collections.abc import Callable
from typing import Any

import msgspec

from app.conversations.records import Call, Rejected

Write = Callable[[object, str], str]


def calls_of(holder: dict[str, Any], field: str, write: Write) -> tuple[Call, ...]:
    """The calls beside the content of an OpenAI turn; `write` gives the JSON text of a value."""
    listed, alone = holder.get("tool_calls"), holder.get("function_call")
    if listed and alone:
        reason = "The turn has both `tool_calls` and `function_call`; put all its calls into `tool_calls`."
        raise Rejected("wrong_shape", reason, f"{field}.function_call")
    if alone:
        return (_call(alone, f"{field}.function_call", write),)
    if listed and not isinstance(listed, list):
        raise Rejected("wrong_shape", "`tool_calls` must be a list.", f"{field}.tool_calls")
    return tuple(_call(one, f"{field}.tool_calls[{place}]", write) for place, one in enumerate(listed or ()))


def refuse_calls(holder: dict[str, Any], field: str, who: str) -> None:
    """Beside the content of any other turn a chat template leaves calls out."""
    for key in ("tool_calls", "function_call"):
        if holder.get(key):
            reason = f"A {who} turn has `{key}`, which would be lost; put the calls into an assistant turn."
            raise Rejected("wrong_shape", reason, f"{field}.{key}")


def calls_in_text(content: object, field: str, write: Write) -> tuple[Call, ...]:
    """The calls of a ShareGPT `function_call` turn: an object or a list of them, mostly as JSON text."""
    value = _decoded(content, "The call of a tool", field)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise Rejected("empty_answer", "The call of a tool is empty.", field)
    return tuple(_call(one, field, write) for one in listed)


def tools_of(value: dict[str, Any], write: Write) -> tuple[str, ...]:
    """Each tool as JSON text."""
    found = value.get("tools") or []
    listed = _decoded(found, "`tools`", "tools")
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise Rejected("wrong_shape", "`tools` must be a list of objects.", "tools")
    return tuple(write(tool, "tools") for tool in listed)


def _call(call: object, field: str, write: Write) -> Call:
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise Rejected("wrong_shape", "The call of a tool needs a name and arguments.", field)
    arguments = inner.get("arguments", {})
    return Call(inner["name"], arguments if isinstance(arguments, str) else write(arguments, field))


def _decoded(value: object, what: str, field: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise Rejected("wrong_shape", f"{what} is not JSON.", field) from None
