"""The shapes a record may have, each read into the same list of turns. Which one it is follows from the keys.

messages            OpenAI: role and content; LLaMA-Factory and TRL add `images`
conversations       ShareGPT: from and value; Qwen3-VL's own format adds `image` or `images`
instruction         Alpaca: instruction, input, output, system, history
prompt              prompt and completion, or prompt and response; texts, or lists of messages
"""

from typing import Any, NamedTuple

from app.conversations.records import ExactNumber, Rejected
from app.conversations.unread import unread_reason

ROLES = ("system", "user", "assistant", "tool")
SPOKEN = {
    "system": ("system",),
    "user": ("human", "user"),
    "assistant": ("gpt", "assistant", "chatgpt", "bard", "model", "function_call"),
    "tool": ("observation", "tool", "function_response"),
}
ALIASES = {alias: role for role, aliases in SPOKEN.items() for alias in aliases}
ANSWER_KEYS = ("completion", "response")
IMAGE_KEYS = ("images", "image")
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


class RawTurn(NamedTuple):
    """A turn as it was written; `field` and `role_field` are paths of its content and role in the record."""

    role: str
    content: Any
    field: str
    role_field: str
    holder: dict[str, Any]
    is_call: bool = False  # the content is a call of a tool, as JSON


def shape_of(value: object) -> str:
    """The name of the record's shape; raises `Rejected` where it has none."""
    if not isinstance(value, dict):
        raise Rejected("wrong_shape", f"The line holds {name_of(value)}; expected an object with a list `messages`.")
    for name in ("messages", "conversations"):
        if name in value:
            return name
    if "instruction" in value and "output" in value:
        return "instruction"
    if "prompt" in value and any(key in value for key in ANSWER_KEYS):
        return "prompt"
    if unread := unread_reason(value):
        raise unread
    keys = ", ".join(f"`{key[:40]}`" for key in list(value)[:8]) or "none"
    raise Rejected("wrong_shape", f"No known shape: the keys are {keys}; expected a list `messages`.")


def raw_turns(value: dict[str, Any], shape: str) -> list[RawTurn]:
    """The turns in order; raises `Rejected` for what is no turn."""
    return READERS[shape](value)


def turn_fields(value: Any) -> list[str]:
    """Where in the raw record the content of each turn stands."""
    return [turn.field for turn in raw_turns(value, shape_of(value))]


def images_of(value: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """(key, images) that stand beside the turns, or None where the record has no such key."""
    for key in IMAGE_KEYS:
        if value.get(key) is not None:
            found = value[key]
            return key, found if isinstance(found, list) else [found] if found else []
    return None


def _from_messages(value: dict[str, Any]) -> list[RawTurn]:
    turns = []
    for place, message in enumerate(_turn_list(value, "messages")):
        field = f"messages[{place}]"
        if not isinstance(message, dict):
            reason = f"A turn is {name_of(message)}; expected an object with role and content."
            raise Rejected("wrong_shape", reason, field)
        role = _plain_role(message.get("role"), f"{field}.role")
        turns.append(RawTurn(role, message.get("content"), f"{field}.content", f"{field}.role", message))
    return turns


def _from_conversations(value: dict[str, Any]) -> list[RawTurn]:
    turns = _system(value)
    for place, said in enumerate(_turn_list(value, "conversations")):
        field = f"conversations[{place}]"
        if not isinstance(said, dict):
            reason = f"A turn is {name_of(said)}; expected an object with from and value."
            raise Rejected("wrong_shape", reason, field)
        who, what = ("from", "value") if "from" in said or "value" in said else ("role", "content")
        name = said.get(who)
        role = ALIASES.get(name) if isinstance(name, str) else None
        if role is None:
            expected = "human, gpt, system, function_call or observation"
            raise Rejected("unknown_role", f"The role is {shown(name)}; expected {expected}.", f"{field}.{who}")
        is_call = name == "function_call"
        turns.append(RawTurn(role, said.get(what), f"{field}.{what}", f"{field}.{who}", said, is_call))
    return turns


def _from_instruction(value: dict[str, Any]) -> list[RawTurn]:
    turns = _system(value)
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise Rejected("wrong_shape", "`history` must be a list of pairs, a question and its answer each.", "history")
    for place, pair in enumerate(history):
        turns += [
            RawTurn(role, said, f"history[{place}][{side}]", f"history[{place}]", {})
            for side, (role, said) in enumerate(zip(("user", "assistant"), pair, strict=True))
        ]
    question, more = value["instruction"], value.get("input")
    if isinstance(more, str | int | float | dict | list) and more not in ("", [], {}):
        if not isinstance(question, str) or not isinstance(more, str):
            raise Rejected("wrong_shape", "`instruction` and `input` must be texts.", "input")
        question = f"{question}\n{more}" if question else more
    turns.append(RawTurn("user", question, "instruction", "instruction", {}))
    return [*turns, RawTurn("assistant", value["output"], "output", "output", {})]


def _from_prompt(value: dict[str, Any]) -> list[RawTurn]:
    turns = _system(value)
    answer = next(key for key in ANSWER_KEYS if key in value)
    for key, role in (("prompt", "user"), (answer, "assistant")):
        said = value[key]
        if isinstance(said, list) and said and all(isinstance(one, dict) and "role" in one for one in said):
            for place, message in enumerate(said):
                field = f"{key}[{place}]"
                plain = _plain_role(message["role"], f"{field}.role")
                turns.append(RawTurn(plain, message.get("content"), f"{field}.content", f"{field}.role", message))
        else:
            turns.append(RawTurn(role, said, key, key, {}))
    return turns


READERS = {
    "messages": _from_messages,
    "conversations": _from_conversations,
    "instruction": _from_instruction,
    "prompt": _from_prompt,
}


def _turn_list(value: dict[str, Any], key: str) -> list[Any]:
    turns = value[key]
    if not isinstance(turns, list):
        raise Rejected("wrong_shape", f"`{key}` is {name_of(turns)}; expected a list of turns.", key)
    if not turns:
        raise Rejected("wrong_shape", "The conversation has no turns.", key)
    return turns


def _system(value: dict[str, Any]) -> list[RawTurn]:
    return [RawTurn("system", value["system"], "system", "system", {})] if value.get("system") else []


def _plain_role(role: object, field: str) -> str:
    """Under `messages` the four names are compared exactly."""
    if isinstance(role, str) and role in ROLES:
        return role
    raise Rejected("unknown_role", f"The role is {shown(role)}; expected system, user, assistant or tool.", field)


def name_of(value: object) -> str:
    return NAMES.get(type(value), "something else")


def shown(role: object) -> str:
    if role is None:
        return "missing"
    return f"'{role[:40]}'" if isinstance(role, str) else name_of(role)
