"""A valid record as the lints see it, and how they speak about it."""

import hashlib
from typing import NamedTuple

from app.conversations.findings import Finding, excerpt, printable
from app.conversations.lints.kinds import severity_of
from app.conversations.records import Conversation, Line, Turn
from app.conversations.shapes import turn_fields


class Record(NamedTuple):
    """`raw` are the bytes of the line, `value` its JSON, `texts` one text a turn: its content and calls of tools;
    `answers` has (number of the turn, text) of each answer that is learned, of which there is at least one."""

    line: int
    raw: bytes
    value: object
    conversation: Conversation
    texts: tuple[str, ...]
    answers: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, line: Line, conversation: Conversation) -> "Record":
        texts = tuple(map(text_of, conversation.turns))
        answers = tuple(
            (place, texts[place])
            for place, turn in enumerate(conversation.turns)
            if turn.role == "assistant" and not turn.is_context
        )
        return cls(line.number, line.raw, line.value, conversation, texts, answers)

    @property
    def until_answer(self) -> tuple[str, ...]:
        """The texts up to the last answer that is learned."""
        return self.texts[: self.answers[-1][0] + 1]

    def field(self, turn: int) -> str:
        """Where in the raw record the turn's content stands."""
        return turn_fields(self.value)[turn]

    def finding(self, kind: str, turn: int, message: str, shown: str | None = None) -> Finding:
        text = self.texts[turn] if shown is None else shown
        return Finding(kind, severity_of(kind), self.line, self.field(turn), printable(message), excerpt(text))


def text_of(turn: Turn) -> str:
    """Its content and calls of tools."""
    if not turn.calls:
        return turn.text
    return "\n".join([turn.text, *(f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in turn.calls)])


def digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def around(text: str, start: int, end: int, margin: int = 40) -> str:
    return text[max(0, start - margin) : end + margin]
