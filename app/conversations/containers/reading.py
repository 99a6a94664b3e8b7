"""How a file is to be read where its keys do not say so: columns under other names, a shape that is meant."""

from typing import Any

import msgspec

from app.conversations.normalize import json_text
from app.conversations.reader import parse
from app.conversations.records import Rejected
from app.errors import wrong_field

# The keys of each shape; those of the others are left out of a record that is to be read as one.
SHAPE_KEYS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "instruction": ("instruction", "input", "output", "history"),
    "prompt": ("prompt", "completion", "response"),
}
BESIDE = ("system", "images", "image", "tools")
FIELD_NAMES = tuple(sorted({*BESIDE, *(key for keys in SHAPE_KEYS.values() for key in keys)}))


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """`fields` has the file's own name for a key of a shape: {"prompt": "question", "response": "answer"}."""

    shape: str | None = None
    fields: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def written(cls, shape: str | None, fields: str | None) -> "Reading":
        """As a person writes it: fields as `prompt=question, response=answer`. Raises `WrongInput`."""
        pairs = [one.partition("=") for one in (fields or "").split(",") if one.strip()]
        if wrong := next((key for key, equals, own in pairs if not (equals and key.strip() and own.strip())), None):
            raise wrong_field("fields", f"must be written as key=name, with commas between; {wrong.strip()!r} is not")
        reading = cls(shape or None, {key.strip(): own.strip() for key, _, own in pairs})
        if problem := reading.problem():
            raise wrong_field(*problem)
        return reading

    def problem(self) -> tuple[str, str] | None:
        """The field that makes this no reading, and why; or None."""
        if self.shape is not None and self.shape not in SHAPE_KEYS:
            return "shape", f"{self.shape!r} is none of {', '.join(SHAPE_KEYS)}"
        strange = [name for name in self.fields if name not in FIELD_NAMES]
        return ("fields", f"{strange[0]!r} is none of {', '.join(FIELD_NAMES)}") if strange else None

    def apply(self, line: bytes) -> bytes:
        """The line with the keys that were meant; one that is no object stays as it is."""
        try:
            value = parse(line)
            return json_text(self.record(value)).encode() if isinstance(value, dict) else line
        except (Rejected, RecursionError):
            return line

    def record(self, value: dict[str, Any]) -> dict[str, Any]:
        made = {key: one for key, one in value.items() if key not in self.fields.values()}
        made |= {name: value[own] for name, own in self.fields.items() if own in value}
        if self.shape is None:
            return made
        others = {key for shape, keys in SHAPE_KEYS.items() if shape != self.shape for key in keys}
        return {key: one for key, one in made.items() if key not in others}
