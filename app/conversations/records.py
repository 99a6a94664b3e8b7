"""The data types between a raw line and its tokens."""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Rejected(Exception):
    """A record that cannot be trained, with the reason in words.

    `kind` is a finding kind of severity "error", `field` a path such as `messages[1].content` ("" = the whole line),
    `excerpt` the text at fault where the start of the line would not show it.
    """

    def __init__(self, kind: str, message: str, field: str = "", excerpt: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.field = field
        self.excerpt = excerpt


class ExactNumber(msgspec.Struct, frozen=True):
    """A number that a Python float or int would change (1e400, 0.1234567890123456789): kept as it was written."""

    text: str


class Line(msgspec.Struct, frozen=True):
    """One line that is not blank. `number` counts from 1, blank lines included; `end` is the file offset behind it."""

    number: int
    raw: bytes
    value: object
    error: Rejected | None
    end: int


class Text(msgspec.Struct, frozen=True):
    text: str


class Image(msgspec.Struct, frozen=True):
    """An image whose bytes were decoded once; `width` and `height` are in pixels, after the EXIF rotation. `traits` are
    kinds of findings: what becomes of it on its way to the model that may surprise."""

    data: bytes
    source: str
    width: int
    height: int
    traits: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """A call of a tool; `arguments` is JSON text."""

    name: str
    arguments: str


class Turn(msgspec.Struct, frozen=True):
    """`is_context` is an answer that the model reads and does not learn."""

    role: Role
    content: tuple[Text | Image, ...]
    calls: tuple[Call, ...] = ()
    is_context: bool = False

    @property
    def text(self) -> str:
        """All texts of the turn, joined as the chat template joins them."""
        return "".join(item.text for item in self.content if isinstance(item, Text))


class Conversation(msgspec.Struct, frozen=True):
    """`tools` are what may be called, each as JSON text."""

    turns: tuple[Turn, ...]
    tools: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        # A list first: it is made in half the time, and this is asked several times for each record.
        return tuple([item for turn in self.turns for item in turn.content if type(item) is Image])

    @property
    def answer(self) -> str:
        """The text of the last assistant turn."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")
