"""An answer that is nothing but a number."""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.conversations.findings import Finding
from app.conversations.lints.edit import replace_at
from app.conversations.lints.record import Record

NUMBER = re.compile(r"\s*[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?\s*\Z")
LONGEST = 40


def find(record: Record) -> Iterator[Finding]:
    for place, text in record.answers:
        if len(text) <= LONGEST and NUMBER.match(text):
            yield record.finding("bare_count", place, "The answer is a bare number.")


def repair(value: Any, field: str) -> Any:
    """The number as {"count": n}, written as it was: a text stays a text."""
    return replace_at(value, field, _wrap)


def _wrap(content: Any) -> Any:
    if isinstance(content, list):  # one text item
        return [item | {"text": _wrap(item["text"])} for item in content]
    if isinstance(content, str):
        number = content.strip().replace(",", "").replace("_", "").removeprefix("+")
        return json.dumps({"count": json.loads(number)}) if _is_json(number) else json.dumps({"count": number})
    return {"count": content}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
