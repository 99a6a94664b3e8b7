"""Lines of a JSONL file, one at a time, in constant memory; nothing in a line can make it crash."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import msgspec

from app.conversations.normalize import normalize
from app.conversations.records import Conversation, ExactNumber, Line, Rejected

LINE_LIMIT = 64 * 2**20  # ten photographs of a telephone as data URIs
BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
KEPT_OF_LONG_LINE = 4096
# Numbers with fewer characters and no exponent are the same number again after a trip through a float.
SHORT_NUMBER = 16
DIGITS_OF_INT = 4300
SURROGATE = re.compile("[\ud800-\udfff]")
# An escaped pair, half of one, or any other escape: the first that matches, so that the halves of a pair are none.
ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)")


class RawLine(NamedTuple):
    """A line as it stands in the file; `raw` holds its first bytes where it is longer than the limit and `is_cut`."""

    number: int
    start: int
    end: int
    raw: bytes
    is_cut: bool


def read_lines(path: Path, limit: int = LINE_LIMIT) -> Iterator[Line]:
    """Every line that is not blank, parsed; `error` says why where it could not be."""
    with path.open("rb") as file:
        for raw_line in raw_lines(file, limit=limit):
            if line := parse_line(raw_line, limit):
                yield line


def find_line(path: Path, number: int, limit: int = LINE_LIMIT) -> Line | None:
    """The line of that number, or None where there is none or it is blank. The lines before it are not parsed."""
    with path.open("rb") as file:
        for found in raw_lines(file, limit=limit):
            if found.number == number:
                return parse_line(found, limit)
    return None


def raw_lines(file: BinaryIO, start: int = 0, end: int | None = None, limit: int = LINE_LIMIT) -> Iterator[RawLine]:
    """The lines that begin in [start, end), counted from 1; `start` must be where a line begins."""
    file.seek(start)
    number, place = 0, start
    while (end is None or place < end) and (raw := file.readline(limit + 1)):
        number += 1
        is_cut = len(raw) > limit and not raw.endswith(b"\n")
        after = place + len(raw) + (_skip_rest(file, limit) if is_cut else 0)
        yield RawLine(number, place, after, raw, is_cut)
        place = after


def line_starts(path: Path, part_size: int, limit: int = LINE_LIMIT) -> Iterator[int]:
    """Where to cut a file into parts of about that size, 0 first: each offset is where a line begins."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < size:
            yield place
            file.seek(place + part_size - 1)
            _skip_rest(file, limit)
            place = file.tell()


def parse_line(found: RawLine, limit: int = LINE_LIMIT) -> Line | None:
    """The line with its JSON value, or with the reason why it has none; None for a blank line."""
    raw = (found.raw.removeprefix(BOM) if found.start == 0 else found.raw).strip(BLANKS)
    return _line(found, raw, limit) if raw else None


def read_conversations(path: Path) -> Iterator[tuple[Line, Conversation | Rejected]]:
    """Every line with its conversation, or with the reason why it has none."""
    for line in read_lines(path):
        yield line, conversation_of(line)


def conversation_of(line: Line) -> Conversation | Rejected:
    try:
        return line.error or normalize(line.value)
    except Rejected as error:
        return error


def valid_conversations(path: Path) -> Iterator[tuple[int, Conversation]]:
    """(line number, conversation) of the lines that can be trained."""
    for line, found in read_conversations(path):
        if isinstance(found, Conversation):
            yield line.number, found


def parse(raw: bytes) -> object:
    """The JSON value of one line; of a repeated key the last value counts. Raises `Rejected` not_json."""
    try:
        return FAST.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # msgspec refuses more than JSON does and says less about it, so the standard library has the last word.
        return _parse_again(raw)


def too_long(limit: int) -> str:
    return f"The line, with the images in it, is longer than {limit:,} bytes and was not read."


def _line(found: RawLine, raw: bytes, limit: int) -> Line:
    number, end = found.number, found.end
    if found.is_cut:
        return Line(number, raw[:KEPT_OF_LONG_LINE], None, Rejected("wrong_shape", too_long(limit)), end)
    try:
        return Line(number, raw, parse(raw), None, end)
    except Rejected as error:
        return Line(number, raw, None, error, end)


def _skip_rest(file: BinaryIO, limit: int) -> int:
    """Go behind the end of the line; how many bytes that were."""
    skipped = 0
    while rest := file.readline(limit):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _parse_again(raw: bytes) -> object:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_not_a_number)
    except UnicodeDecodeError as error:
        raise Rejected("not_json", f"Byte {error.start + 1} is not UTF-8.", "", _around(raw, error.start)) from None
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 60) : error.pos + 60]
        raise Rejected("not_json", f"Not JSON at column {error.pos + 1}: {error.msg}.", "", near) from None
    except RecursionError:
        raise Rejected("not_json", "The line is nested too deeply to be read.") from None
    _refuse_surrogates(value, raw)
    return value


def _around(raw: bytes, start: int) -> str:
    return raw[max(0, start - 60) : start + 60].decode("utf-8", errors="replace")


def _float(text: str) -> float | ExactNumber:
    value = float(text)
    if len(text) <= SHORT_NUMBER and "e" not in text and "E" not in text:
        return value
    same = math.isfinite(value) and Decimal(text) == Decimal(repr(value))
    return value if same else ExactNumber(text)


def _int(text: str) -> int | ExactNumber:
    return int(text) if len(text) < DIGITS_OF_INT else ExactNumber(text)


def _not_a_number(name: str) -> NoReturn:
    raise Rejected("not_json", f"{name} is not JSON; write null or a text.", "", name)


def _refuse_surrogates(value: object, raw: bytes) -> None:
    """Half of a surrogate pair is no character: it can be neither stored as UTF-8 nor tokenized."""
    if SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str)):
        half = next(found for found in ESCAPE.finditer(raw) if found[1])
        code, at = half[0].decode().lower(), half.start()
        message = f"{code} at byte {at + 1} is half of a surrogate pair, which is no character."
        raise Rejected("not_json", message, "", _around(raw, at))


FAST = msgspec.json.Decoder(float_hook=_float)
