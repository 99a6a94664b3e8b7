"""One raw record to one conversation: the same pure function for upload, preview and trainer.

A chat template drops or garbles what it does not expect without a word, so everything it would lose is refused here.
"""

import json
import re
from functools import partial
from typing import Any, cast

from app.conversations.images import read_image
from app.conversations.records import Conversation, ExactNumber, Image, Rejected, Role, Text, Turn

NORMALIZER_VERSION = 1
ROLES = ("system", "user", "assistant", "tool")
ITEM_TYPES = frozenset({"text", "image", "image_url", "video"})
IMAGE_ROLES = ("user", "tool")
# What a turn or a record may carry beside its content that the template would leave out.
NOT_CARRIED_TURN = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "audio")
NOT_CARRIED_RECORD = ("tools", "functions", "videos", "audios")


def normalize(value: object) -> Conversation:
    """The conversation in a decoded JSON value; raises `Rejected` with kind, reason and field."""
    messages = _messages(value)
    turns = tuple(_turn(message, index) for index, message in enumerate(messages))
    if turns[-1].role != "assistant":
        raise Rejected(
            "no_answer",
            f"The conversation ends with a {turns[-1].role} turn: there is no answer to learn.",
            f"messages[{len(turns) - 1}].role",
        )
    return Conversation(turns)


def with_system_prompt(conversation: Conversation, prompt: str) -> tuple[Conversation, bool]:
    """The conversation with a system turn in front, and whether `prompt` had to be put there ("" puts none)."""
    if not prompt or conversation.turns[0].role == "system":
        return conversation, False
    return Conversation((Turn("system", (Text(prompt),)), *conversation.turns)), True


def json_text(value: object) -> str:
    """The value as json.dumps(ensure_ascii=False) writes it; numbers that a float would change stay as written."""
    fence = "\ufdd0"
    while True:
        numbers: list[str] = []
        plain = json.dumps(value, ensure_ascii=False, default=partial(_stand_in, numbers, fence))
        parts = re.split(f'"{fence}(\\d+)"', plain)
        if len(parts) == 2 * len(numbers) + 1:
            parts[1::2] = [numbers[int(number)] for number in parts[1::2]]
            return "".join(parts)
        fence += fence  # a text of the record looks like a stand-in: take a longer mark


def _stand_in(numbers: list[str], fence: str, number: object) -> str:
    if not isinstance(number, ExactNumber):
        raise TypeError(f"{type(number).__name__} is not a JSON value")
    numbers.append(number.text)
    return f"{fence}{len(numbers) - 1}"


def _messages(value: object) -> list[Any]:
    if not isinstance(value, dict):
        raise Rejected("wrong_shape", f"The line holds {_name(value)}; expected an object with a list `messages`.")
    messages = value.get("messages")
    if "messages" not in value:
        keys = ", ".join(f"`{key[:40]}`" for key in list(value)[:8]) or "none"
        raise Rejected("wrong_shape", f"No known shape: the keys are {keys}; expected a list `messages`.")
    if not isinstance(messages, list):
        raise Rejected("wrong_shape", f"`messages` is {_name(messages)}; expected a list of turns.", "messages")
    if not messages:
        raise Rejected("wrong_shape", "The conversation has no turns.", "messages")
    _refuse_extras(value, NOT_CARRIED_RECORD, "")
    if value.get("images"):
        raise Rejected(
            "image_missing",
            "The images stand beside the messages, where they are not read: put each into a content as a data URI.",
            "images",
        )
    return messages


def _turn(message: object, index: int) -> Turn:
    field = f"messages[{index}]"
    if not isinstance(message, dict):
        raise Rejected("wrong_shape", f"A turn is {_name(message)}; expected an object with role and content.", field)
    role = message.get("role")
    if role not in ROLES:
        raise Rejected(
            "unknown_role", f"The role is {_shown(role)}; expected system, user, assistant or tool.", f"{field}.role"
        )
    if role == "system" and index:
        raise Rejected("system_not_first", "A system message stands after the first turn.", f"{field}.role")
    _refuse_extras(message, NOT_CARRIED_TURN, f"{field}.")
    content = message.get("content")
    if content is None:
        gone = "null" if "content" in message else "missing"
        raise Rejected("null_content", f"The content of the {role} turn is {gone}.", f"{field}.content")
    turn = Turn(cast(Role, role), _content(content, role, f"{field}.content"))
    if role == "assistant" and not turn.text.strip():
        raise Rejected("empty_answer", "The assistant's answer is empty.", f"{field}.content")
    return turn


def _content(content: object, role: str, field: str) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if is_item_list(content):
        return tuple(_item(item, role, f"{field}[{i}]") for i, item in enumerate(cast(list[Any], content)))
    return (Text(_as_text(content, field)),)


def is_item_list(content: object) -> bool:
    """Whether a content counts as content items; any other list is a value."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(item, dict) and _is_item_type(item.get("type")) for item in content)
    )


def _is_item_type(kind: object) -> bool:
    return isinstance(kind, str) and kind in ITEM_TYPES


def _item(item: dict[str, Any], role: str, field: str) -> Text | Image:
    kind = item["type"]
    if kind == "text":
        text = item.get("text")
        if text is None:
            raise Rejected("null_content", "A text item holds no text.", f"{field}.text")
        return Text(text if isinstance(text, str) else _as_text(text, f"{field}.text"))
    if kind == "video":
        raise Rejected("wrong_shape", "Videos cannot be trained on.", field)
    if role not in IMAGE_ROLES:
        raise Rejected(
            "wrong_shape", f"An image stands in the {role} turn, where the chat template would drop it.", field
        )
    return read_image(item, field)


def _as_text(value: object, field: str) -> str:
    try:
        return json_text(value)
    except RecursionError:
        raise Rejected("wrong_shape", "The content is nested too deeply.", field) from None


def _refuse_extras(holder: dict[str, Any], keys: tuple[str, ...], prefix: str) -> None:
    for key in keys:
        if holder.get(key):
            reason = f"`{key}` cannot be trained on yet and would be lost; put it into the content."
            raise Rejected("wrong_shape", reason, prefix + key)


NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    ExactNumber: "a number",
    type(None): "null",
}


def _name(value: object) -> str:
    return NAMES.get(type(value), "something else")


def _shown(role: object) -> str:
    if role is None:
        return "missing"
    return f"'{role[:40]}'" if isinstance(role, str) else _name(role)
