"""UTF-8 text that was decoded as Windows-1252 or the like on its way: ZÃ¼rich."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from app.conversations.findings import Finding
from app.conversations.lints.edit import change_text
from app.conversations.lints.record import Record, around

# Nearly all mojibake has a letter that stands for the first byte of a UTF-8 character, followed by another that is not
# ASCII. As bytes of UTF-8 that is seen a hundred times faster than ftfy sees it, which then has the word. Each begins
# with one byte, which is searched for at once.
LATIN = re.compile(rb"\xc3[\x82-\xb4][\xc2\xc5\xc6\xcb\xe2]")  # Windows-1252, ISO-8859-1
CYRILLIC = re.compile(rb"\xd0[\xa0\xa1][\xc2\xe2]")  # Windows-1251
DRAWING = re.compile(rb"\xe2\x94[\x80-\xbf][\xc2\xc3\xe2]")  # lines of code page 437
ESCAPED = re.compile(rb"\\u00[c-fC-F][0-9a-fA-F]\\u[02]")
NOT_ASCII = re.compile(r"[^\x00-\x7f]{2,}")


def find(record: Record) -> Iterator[Finding]:
    raw = record.raw
    if raw.isascii():
        if b"\\u00" not in raw or not ESCAPED.search(raw):
            return
    elif not (LATIN.search(raw) or CYRILLIC.search(raw) or DRAWING.search(raw)):
        return
    for place, text in enumerate(record.texts):
        fixed = mended(text)
        if fixed != text:
            at = next((found.start() for found in NOT_ASCII.finditer(text)), 0)
            yield record.finding("mojibake", place, _message(text, at), around(text, at, at + 20))


def _message(text: str, at: int) -> str:
    garbled = text[max(0, at - 10) : at + 12].strip()
    return f"Garbled letters: '{garbled}' was '{mended(garbled)}' before it was decoded wrongly."


def mended(text: str) -> str:
    fixed: str = _ftfy().fix_encoding(text)
    return fixed


@cache
def _ftfy() -> Any:
    """Loaded when first wanted: it takes a quarter of a second, and most files have no line that looks like it."""
    return importlib.import_module("ftfy")


def repair(value: Any, field: str) -> Any:
    return change_text(value, field, mended)
