"""Lines of a JSONL file, one at a time, in constant memory; nothing in a line can make it crash."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from app.conversations.normalize import normalize
from app.conversations.records import Conversation, ExactNumber, Line, Rejected

LINE_LIMIT = 16 * 1024 * 1024
BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
KEPT_OF_LONG_LINE = 4096
# Numbers with fewer characters and no exponent are the same number again after a trip through a float.
SHORT_NUMBER = 16
DIGITS_OF_INT = 4300
SURROGATE = re.compile("[\ud800-\udfff]")


def read_lines(path: Path, limit: int = LINE_LIMIT) -> Iterator[Line]:
    """Every line that is not blank, parsed; `error` says why where it could not be."""
    with path.open("rb") as file:
        for number, raw, is_cut in _raw_lines(file, limit):
            if raw:
                yield _line(number, raw, file.tell(), limit if is_cut else None)


def find_line(path: Path, number: int, limit: int = LINE_LIMIT) -> Line | None:
    """The line of that number, or None where there is none or it is blank. The lines before it are not parsed."""
    with path.open("rb") as file:
        for found, raw, is_cut in _raw_lines(file, limit):
            if found == number:
                return _line(number, raw, file.tell(), limit if is_cut else None) if raw else None
    return None


def _raw_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes, bool]]:
    """(number, bytes without blanks around them, whether the line was longer than the limit and cut)."""
    number = 0
    while raw := file.readline(limit + 1):
        number += 1
        is_cut = len(raw) > limit and not raw.endswith(b"\n")
        if is_cut:
            _skip_rest(file, limit)
        if number == 1:
            raw = raw.removeprefix(BOM)
        yield number, raw.strip(BLANKS), is_cut


def read_conversations(path: Path) -> Iterator[tuple[Line, Conversation | Rejected]]:
    """Every line with its conversation, or with the reason why it has none."""
    for line in read_lines(path):
        try:
            yield line, line.error or normalize(line.value)
        except Rejected as error:
            yield line, error


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


def _line(number: int, raw: bytes, end: int, passed_limit: int | None) -> Line:
    if passed_limit is not None:
        reason = f"The line is longer than {passed_limit:,} bytes and was not read."
        return Line(number, raw[:KEPT_OF_LONG_LINE], None, Rejected("wrong_shape", reason), end)
    try:
        return Line(number, raw, parse(raw), None, end)
    except Rejected as error:
        return Line(number, raw, None, error, end)


def _skip_rest(file: BinaryIO, limit: int) -> None:
    while rest := file.readline(limit):
        if rest.endswith(b"\n"):
            return


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
    half = SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str))
    if half:
        code = f"\\u{ord(half[0]):04x}"
        at = raw.lower().find(code.encode())
        message = f"{code} at byte {at + 1} is half of a surrogate pair, which is no character."
        raise Rejected("not_json", message, "", _around(raw, at))


FAST = msgspec.json.Decoder(float_hook=_float)
