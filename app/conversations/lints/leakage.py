"""A validation record whose question is also trained on."""

from collections.abc import Iterator
from pathlib import Path

from app.conversations.findings import Finding
from app.conversations.lints.columns import hashes
from app.conversations.lints.record import Record
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation


def find(train: Path, validation: Path) -> Iterator[Finding]:
    """Findings at the lines of `validation`; `other_line` is the first line of `train` with that question.

    Takes some 100 bytes of memory a record of `train`.
    """
    questions: dict[int, int] = {}
    for line, question, _ in _questions(train):
        questions.setdefault(question, line)
    for line, question, record in _questions(validation):
        if (other := questions.get(question)) is not None:
            found = record.finding("leakage", 0, f"Line {other} of the training data has the same question.")
            yield Finding(found.kind, found.severity, line, found.field, found.message, found.excerpt, other)


def _questions(path: Path) -> Iterator[tuple[int, int, Record]]:
    for line, found in read_conversations(path):
        if isinstance(found, Conversation):
            record = Record.of(line, found)
            yield line.number, hashes(record)[0], record
