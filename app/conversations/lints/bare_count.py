"""An answer that is nothing but a number."""

import re
from collections.abc import Iterator
from typing import Any

from app.conversations.findings import Finding
from app.conversations.lints.edit import replace_at
from app.conversations.lints.record import Record
from app.conversations.normalize import is_item_list, json_text

# A number as JSON has it, or an integer in groups of thousands; 1,85 and 1,2,3 may be anything.
NUMBER = re.compile(r"\s*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|-?[1-9][0-9]{0,2}(?:,[0-9]{3})+)\s*\Z")
LONGEST = 40


def find(record: Record) -> Iterator[Finding]:
    for place, text in record.answers:
        if len(text) <= LONGEST and NUMBER.match(text):
            yield record.finding("bare_count", place, "The answer is a bare number.")


def repair(value: Any, field: str) -> Any:
    """The number as {"count": n}, digit for digit as it was: a text stays a text, and several become one."""
    return replace_at(value, field, _wrap)


def _wrap(content: Any) -> Any:
    if isinstance(content, str):
        return _wrapped(content)
    if is_item_list(content):
        texts = (item["text"] for item in content)
        whole = "".join(text if isinstance(text, str) else json_text(text) for text in texts)
        return [content[0] | {"text": _wrapped(whole)}]
    return {"count": content}


def _wrapped(text: str) -> str:
    found = NUMBER.match(text)
    return f'{{"count": {found[1].replace(",", "")}}}' if found else text
