"""An object with one key twice: only the last value counts."""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.conversations.findings import Finding, excerpt, printable
from app.conversations.lints.kinds import severity_of

BACKSLASHES_BEFORE_END = re.compile(rb'(?<!\\)(?:\\\\)+":')
BLANKS_BEFORE_COLON = re.compile(rb'(?<!\\)(?:\\\\)*"[ \t]+:')


def find(line: int, raw: bytes, value: object) -> Iterator[Finding]:
    # Each key is written once with a quote and a colon behind it, mostly without a blank between them; inside a text
    # that quote has a backslash. A key that ends with a backslash has two of them there.
    num_written = raw.count(b'":') - raw.count(b'\\":')
    if b'\\\\":' in raw:
        num_written += len(BACKSLASHES_BEFORE_END.findall(raw))
    if b" :" in raw or b"\t:" in raw:
        num_written += len(BLANKS_BEFORE_COLON.findall(raw))
    if num_written <= 1 or num_written <= _num_keys(value):
        return
    twice: list[str] = []
    json.loads(raw, object_pairs_hook=lambda pairs: _note(pairs, twice))
    for key in dict.fromkeys(twice):
        at = raw.rfind(json.dumps(key, ensure_ascii=False).encode())
        message = f"The key `{key[:80]}` stands twice in one object, the last time at column {at + 1}."
        shown = raw[max(0, at - 40) : at + 80].decode("utf-8", "replace")
        yield Finding("duplicate_key", severity_of("duplicate_key"), line, key[:80], printable(message), excerpt(shown))


def _num_keys(value: object) -> int:
    number, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            number += len(one)
            left += one.values()
        elif isinstance(one, list):
            left += one
    return number


def _note(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice.extend(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return made
