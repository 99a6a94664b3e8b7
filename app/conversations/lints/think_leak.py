"""An answer with a <think> block that never ends, or an end without a start."""

import re
from collections.abc import Iterator
from typing import Any

from app.conversations.findings import Finding
from app.conversations.lints.edit import change_text
from app.conversations.lints.record import Record
from app.conversations.parse_text import json_tail

OPEN, CLOSE = "<think>", "</think>"
TAG = re.compile(r"</?think>")


def find(record: Record) -> Iterator[Finding]:
    if b"think>" not in record.raw:
        return
    for place, text in record.answers:
        if "think>" in text and (message := fault(text)):
            yield record.finding("think_leak", place, message)


def fault(text: str) -> str:
    """What is wrong with the thinking in an answer, "" where nothing is."""
    is_open = False
    for tag in TAG.findall(text):
        if tag == OPEN and is_open:
            return "A <think> block starts inside another."
        if tag == CLOSE and not is_open:
            return "The answer has a </think> whose <think> is missing."
        is_open = tag == OPEN
    return "The answer has a <think> block that is never closed." if is_open else ""


def repair(value: Any, field: str) -> Any:
    return change_text(value, field, close)


def close(text: str) -> str:
    """The block closed before the JSON at the end, or before the last paragraph; without either the tag goes."""
    if not fault(text):
        return text
    if text.count(CLOSE) > text.count(OPEN):
        return f"{OPEN}\n{text}" if OPEN not in text else TAG.sub("", text)
    start = json_tail(text)
    if start is None:
        start = text.rfind("\n\n") + 2 if "\n\n" in text.strip() else None
    if start is None or text.count(OPEN) != 1 or not text[start:].strip():
        return TAG.sub("", text).lstrip()
    return f"{text[:start].rstrip()}\n{CLOSE}\n\n{text[start:]}"
