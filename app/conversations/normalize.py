"""One raw record to one conversation: the same pure function for upload, preview and trainer.

A chat template drops or garbles what it does not expect without a word, so everything it would lose is refused here.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from app.conversations.images import REFERENCE_KEYS, read_image
from app.conversations.records import Conversation, ExactNumber, Image, Rejected, Role, Text, Turn
from app.conversations.shapes import IMAGE_KEYS, RawTurn, images_of, raw_turns, shape_of
from app.conversations.tool_calls import calls_in_text, calls_of, refuse_calls, tools_of

NORMALIZER_VERSION = 4
PLACEHOLDER = "<image>"
ITEM_TYPES = frozenset({"text", "image", "image_url", "video"})
IMAGE_ROLES = ("user", "tool")
# What a turn or a record may carry beside its content that the template would leave out.
NOT_CARRIED_TURN = ("reasoning_content", "reasoning", "thinking", "audio")
NOT_CARRIED_RECORD = ("functions", "video", "videos", "audios")
PLAIN_TURN = frozenset({"role", "content", "from", "value"})  # keys that hold nothing but the turn
WRITER = json.JSONEncoder(ensure_ascii=False)


def normalize(value: object) -> Conversation:
    """The conversation in a decoded JSON value; raises `Rejected` with kind, reason and field."""
    shape = shape_of(value)
    record = cast(dict[str, Any], value)
    raw = raw_turns(record, shape)
    is_bare = len(record) == 1  # the turns and nothing beside them
    if not is_bare:
        _refuse_extras(record, NOT_CARRIED_RECORD, "")
    beside = None if is_bare else images_of(record)
    if beside is None:
        if shape == "conversations" or not (is_bare or record.keys().isdisjoint(IMAGE_KEYS)):
            _refuse_places(raw)
        turns = tuple(_turn(one, place, None) for place, one in enumerate(raw))
    else:
        turns = _turns_with_images(raw, *beside)
    if turns[-1].role != "assistant":
        raise Rejected(
            "no_answer",
            f"The conversation ends with a {turns[-1].role} turn: there is no answer to learn.",
            raw[-1].role_field,
        )
    if all(turn.is_context for turn in turns if turn.role == "assistant"):
        reason = "Every answer has weight 0: there is none to learn."
        raise Rejected("no_answer", reason, raw[-1].field)
    return Conversation(turns, tools_of(record, _as_text) if "tools" in record else ())


def with_system_prompt(conversation: Conversation, prompt: str) -> tuple[Conversation, bool]:
    """The conversation with a system turn in front, and whether `prompt` had to be put there ("" puts none)."""
    if not prompt or conversation.turns[0].role == "system":
        return conversation, False
    turns = (Turn("system", (Text(prompt),)), *conversation.turns)
    return Conversation(turns, conversation.tools), True


def json_text(value: object) -> str:
    """The value as json.dumps(ensure_ascii=False) writes it; numbers that a float would change stay as written."""
    try:
        return WRITER.encode(value)
    except TypeError:
        return _with_exact_numbers(value)


def _with_exact_numbers(value: object) -> str:
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


def _turns_with_images(raw: list[RawTurn], key: str, images: list[Any]) -> tuple[Turn, ...]:
    """The turns, each placeholder in a text replaced by the next of the images that stand beside them."""
    waiting = [(one, f"{key}[{place}]") for place, one in enumerate(images)]
    wanted = sum(_num_placeholders(turn.content) for turn in raw)
    if wanted != len(waiting):
        raise Rejected(
            "placeholder_mismatch",
            f"The texts have {wanted} places `{PLACEHOLDER}` for {len(waiting)} images.",
            key,
        )
    return tuple(_turn(one, place, waiting) for place, one in enumerate(raw))


def _refuse_places(raw: list[RawTurn]) -> None:
    """Where a shape writes images as places in the texts, a place without an image would be trained as text."""
    for turn in raw:
        if turn.role in IMAGE_ROLES and isinstance(turn.content, str) and PLACEHOLDER in turn.content:
            reason = f"The text has a place `{PLACEHOLDER}`, and the record has no `image` or `images`."
            raise Rejected("placeholder_mismatch", reason, turn.field)


def _num_placeholders(content: object) -> int:
    if isinstance(content, str):
        return content.count(PLACEHOLDER)
    if is_item_list(content):
        items = cast(list[dict[str, Any]], content)
        return sum(_num_placeholders(item.get("text")) + _is_open_image(item) for item in items)
    return 0


def _is_open_image(item: dict[str, Any]) -> bool:
    """An item that says where an image is, and leaves which one to the list beside the turns."""
    return item["type"] == "image" and not any(item.get(key) for key in REFERENCE_KEYS)


def _turn(raw: RawTurn, place: int, images: list[tuple[Any, str]] | None) -> Turn:
    role, content, field = raw.role, raw.content, raw.field
    if role == "system" and place:
        raise Rejected("system_not_first", "A system message stands after the first turn.", raw.role_field)
    holder_field = "" if raw.holder.keys() <= PLAIN_TURN else field.rpartition(".")[0]
    if holder_field:
        _refuse_extras(raw.holder, NOT_CARRIED_TURN, f"{holder_field}.")
        if role != "assistant" or raw.is_call:
            refuse_calls(raw.holder, holder_field, "function_call" if raw.is_call else role)
    is_answer = bool(holder_field) and role == "assistant"
    is_context = is_answer and _has_no_weight(raw.holder, holder_field)
    if raw.is_call:
        return Turn("assistant", (), calls_in_text(content, field, _as_text), is_context)
    calls = calls_of(raw.holder, holder_field, _as_text) if is_answer else ()
    if calls and content in (None, "", []):
        return Turn("assistant", (), calls, is_context)
    if content is None:
        gone = "null" if field.rpartition(".")[2] in raw.holder or not raw.holder else "missing"
        raise Rejected("null_content", f"The content of the {role} turn is {gone}.", field)
    turn = Turn(cast(Role, role), _content(content, role, field, images), calls, is_context)
    if role == "assistant" and not calls and not turn.text.strip():
        raise Rejected("empty_answer", "The assistant's answer is empty.", field)
    return turn


def _has_no_weight(holder: dict[str, Any], field: str) -> bool:
    """OpenAI's mark of an answer that is context alone; data in the ShareGPT shape has it too, on each turn."""
    weight = holder.get("weight")
    if weight is None or weight in (0, 1):
        return weight == 0
    reason = f"The weight is {_as_text(weight, field)[:40]}; expected 1 (learned) or 0 (read only)."
    raise Rejected("wrong_shape", reason, f"{field}.weight")


def _content(content: object, role: str, field: str, images: list[tuple[Any, str]] | None) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (
            tuple(_with_images(content, role, field, images)) if images and PLACEHOLDER in content else (Text(content),)
        )
    if is_item_list(content):
        made: list[Text | Image] = []
        for place, item in enumerate(cast(list[dict[str, Any]], content)):
            where = f"{field}[{place}]"
            if images and _is_open_image(item):
                made += _with_images(PLACEHOLDER, role, where, images)
            elif images and item["type"] == "text" and PLACEHOLDER in str(item.get("text")):
                made += _with_images(item["text"], role, where, images)
            else:
                made.append(_item(item, role, where))
        return tuple(made)
    return (Text(_as_text(content, field)),)


def _with_images(text: str, role: str, field: str, images: list[tuple[Any, str]]) -> Iterator[Text | Image]:
    first, *others = text.split(PLACEHOLDER)
    if first:
        yield Text(first)
    for other in others:
        source, where = images.pop(0)
        if role not in IMAGE_ROLES:
            reason = f"An image in a {role} turn is not shown to the model; put it into a user or tool turn."
            raise Rejected("wrong_shape", reason, field)
        yield read_image({"image": source}, where)
        if other:
            yield Text(other)


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
