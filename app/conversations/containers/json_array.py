"""One JSON array of records as lines, element by element, however it is laid out."""

import json
import re
from collections.abc import Iterator
from typing import IO

from app.conversations.containers.window import DECODER, Endless, Window, is_cut
from app.conversations.reader import LINE_LIMIT, too_long
from app.conversations.unread import KEPT, unread_line

BLANKS = " \t\r\n"
# A comma, the blanks behind it and an object: there the next element may begin.
BEGINNING = re.compile(r",(\s*)(?=\{)")
FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.){0,64})"')
OUTSIDE = re.compile(r'[^"{}\[\]]*+(["{}\[\]])')
PASSED = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
INSIDE = re.compile(PASSED.pattern + '(")', re.DOTALL)
KNOWN_KEYS = frozenset({"messages", "conversations", "instruction", "prompt"})
MOST_REMEMBERED = 64
# What may lie between a comma and the end of the first key behind it.
OVERLAP = 1024
# How often, and how far, it is tried whether an object that begins in an odd way is an element.
MOST_TRIES, TRIED = 10_000, 65_536


def elements(stream: IO[bytes]) -> Iterator[bytes]:
    """Each element on one line, byte for byte but for its line breaks.

    One that is broken comes as it is, up to where the next one begins; the line is no JSON, and is found as such.
    """
    return _Array(Window(stream)).lines()


class _Array:
    """Remembers what elements look like, to know where one begins behind a broken one."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._indents: set[str] = set()
        self._first_keys: set[str] = set()
        self._keys = KNOWN_KEYS
        self._tries = 0
        self._is_done = False

    def lines(self) -> Iterator[bytes]:
        window = self._window
        window.skip(BLANKS)
        window.take(1)
        window.skip(BLANKS)
        while not window.starts_with("]"):
            if window.is_at_end:
                yield unread_line("not_json", "Not JSON: the array ends without its bracket.", "[")
                return
            yield self._element()
            if self._is_done:
                return
            blanks = window.skip(BLANKS)
            while window.starts_with(","):
                window.take(1)
                blanks = window.skip(BLANKS)
            if len(self._indents) < MOST_REMEMBERED and window.starts_with("{"):
                self._indents.add(_indent(blanks))
        window.take(1)
        window.skip(BLANKS)
        if not window.is_at_end:
            yield self._rest("Not JSON at column 1 behind the end of the array.")

    def _element(self) -> bytes:
        try:
            value, end = self._window.value()
        except ValueError as error:
            return self._broken(str(error))
        except Endless:
            return self._endless()
        if isinstance(value, dict) and value:
            self._keys = frozenset(value)
            if len(self._first_keys) < MOST_REMEMBERED:
                self._first_keys.add(next(iter(value)))
        return _bytes(self._window.take(end - self._window.place))

    def _broken(self, reason: str) -> bytes:
        """What lies before the beginning of the next element, or all the rest where none is found."""
        window = self._window
        searched, kept, num_bytes = 1, "", 0
        while True:
            at = self._beginning(window.place + searched)
            if at is not None:
                text = _bytes(window.take(at - window.place))
                passed = f"{reason} {num_bytes + len(text):,} bytes up to the next element were not read."
                return unread_line("not_json", passed, kept) if num_bytes else text
            searched = max(1, len(window.text) - window.place - OVERLAP)
            if window.is_full:
                kept = kept or window.text[window.place : window.place + KEPT]
                num_bytes += len(_bytes(window.take(searched)))
                searched = 0
            if not window.grow():
                return self._rest(reason, kept, num_bytes)

    def _beginning(self, start: int) -> int | None:
        """The comma before the next element."""
        text = self._window.text
        for found in BEGINNING.finditer(text, start):
            if self._is_element(found.end(), _indent(found[1])):
                return found.start()
        return None

    def _is_element(self, place: int, indent: str) -> bool:
        """Whether what begins there is an element, whole or broken, and no object inside one."""
        if self._indents and indent not in self._indents:
            return False
        text = self._window.text
        key = FIRST_KEY.match(text, place)
        is_alike = key is not None and key[1] in (self._first_keys or KNOWN_KEYS)
        if is_alike and key and (key[1] in KNOWN_KEYS or (indent and self._indents)):
            return True
        self._tries += 1
        if self._tries > MOST_TRIES:
            return False
        try:
            value, _ = DECODER.raw_decode(text[place : place + TRIED])
        except json.JSONDecodeError as error:
            return is_alike and is_cut(error)
        except RecursionError:
            return False
        return 2 * len(self._keys & value.keys()) > (len(self._keys) if self._first_keys else 0)

    def _endless(self) -> bytes:
        """Goes behind an element that is too long to be read; of its text nothing is kept but the beginning."""
        window, num_bytes, ends = self._window, 0, _Ends()
        kept = window.text[window.place : window.place + KEPT]
        while True:
            at = ends.look(window.text, window.place)
            num_bytes += len(_bytes(window.take(at - window.place)))
            if ends.is_reached:
                return unread_line("wrong_shape", too_long(LINE_LIMIT), kept)
            if not window.more():
                return self._rest("Not JSON: the element has no end.", kept, num_bytes)

    def _rest(self, reason: str, kept: str = "", num_bytes: int = 0) -> bytes:
        """All that is left, and before it so many bytes that began with `kept`."""
        window = self._window
        kept = kept or window.text[window.place : window.place + KEPT]
        while not window.is_at_end:
            num_bytes += len(_bytes(window.take(len(window.text))))
            window.more()
        self._is_done = True
        return unread_line("not_json", f"{reason} The rest of the file, {num_bytes:,} bytes, was not read.", kept)


class _Ends:
    """Looks for the end of a value that comes in pieces."""

    def __init__(self) -> None:
        self._depth, self._is_text, self.is_reached = 0, False, False

    def look(self, text: str, at: int) -> int:
        """Where the value ends, or how far the text was looked through."""
        while at < len(text) and not self.is_reached:
            found = (INSIDE if self._is_text else OUTSIDE).match(text, at)
            if found is None:
                passed = PASSED.match(text, at) if self._is_text else None
                return passed.end() if passed else len(text)
            at, sign = found.end(), found[1]
            self._is_text = sign == '"' and not self._is_text
            self._depth += (sign in "{[") - (sign in "}]")
            self.is_reached = not self._depth and not self._is_text
        return at


def _indent(blanks: str) -> str:
    """The beginning of the line that ends there, "" where no line begins among the blanks."""
    return blanks[blanks.rfind("\n") :][-64:] if "\n" in blanks else ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\r", b" ").replace(b"\n", b" ")
