"""Running totals over the valid records of a file, or of a part of one."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from app.conversations.images import ImageRules
from app.conversations.normalize import is_item_list
from app.conversations.records import Conversation, ExactNumber, Line
from app.conversations.shapes import raw_turns, shape_of

ANSWER_KINDS: dict[type, str] = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    ExactNumber: "number",
    dict: "object",
    list: "list",
}


IMAGES = ImageRules()


class Statistics(msgspec.Struct):
    """Characters count all texts, answers every assistant turn; tokens are 0 where no tokenizer was given.
    Image tokens are those at the usual pixel limits of Qwen3-VL."""

    turns: int = 0
    characters: int = 0
    longest: int = 0
    answer_characters: int = 0
    images: int = 0
    image_tokens: int = 0
    with_system: int = 0
    tokens: int = 0
    targets: int = 0
    answer_kinds: dict[str, int] = msgspec.field(default_factory=dict)
    shapes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, line: Line, conversation: Conversation, texts: tuple[str, ...]) -> None:
        characters = 0
        for turn, text in zip(conversation.turns, texts, strict=True):
            characters += len(text)
            self.answer_characters += len(text) if turn.role == "assistant" else 0
        self.turns += len(texts)
        self.characters += characters
        self.longest = max(self.longest, characters)
        for image in conversation.images:
            self.images += 1
            self.image_tokens += IMAGES.num_tokens(image.width, image.height)
        self.with_system += conversation.turns[0].role == "system"
        shape = shape_of(line.value)
        self.shapes[shape] = self.shapes.get(shape, 0) + 1
        for kind in _answer_kinds(cast(dict[str, Any], line.value), shape):
            self.answer_kinds[kind] = self.answer_kinds.get(kind, 0) + 1

    def merge(self, other: "Statistics") -> None:
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(theirs, Mapping):
                for key, count in theirs.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, max(mine, theirs) if name == "longest" else mine + theirs)

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(self)
        shown["shape"] = max(self.shapes, key=lambda name: self.shapes[name], default=None)
        if not self.tokens:
            del shown["tokens"], shown["targets"]
        return shown


def _answer_kinds(value: dict[str, Any], shape: str) -> list[str]:
    """What JSON type each answer of a valid record was written as."""
    if shape == "messages":  # by far the most; the turns were gone through once already
        answers = [message.get("content") for message in value["messages"] if message["role"] == "assistant"]
    else:
        answers = [turn.content for turn in raw_turns(value, shape) if turn.role == "assistant"]
    return ["text" if is_item_list(answer) else ANSWER_KINDS.get(type(answer), "call") for answer in answers]
