"""One JSON array of records as lines, element by element, however it is laid out."""

import codecs
import json
from collections.abc import Iterator
from typing import IO

from app.conversations.containers.streams import pieces
from app.conversations.reader import KEPT_OF_LONG_LINE, LINE_LIMIT

DECODER = json.JSONDecoder(strict=False)
BLANKS = " \t\r\n"


def elements(stream: IO[bytes]) -> Iterator[bytes]:
    """Each element on one line, byte for byte but for its line breaks.

    Where the array is broken, its rest comes as a last line that is no JSON, and is found there as such.
    """
    window = _Window(stream)
    window.take(1)
    while True:
        window.skip(BLANKS)
        if window.starts_with("]"):
            window.take(1)
            window.skip(BLANKS)
            if rest := window.rest():
                yield rest
            return
        element = window.value()
        if element is None:
            yield window.rest() or b"["  # the array ends without its bracket
            return
        yield element
        window.skip(BLANKS)
        if window.starts_with(","):
            window.take(1)
        elif not window.starts_with("]"):
            yield window.rest() or b"["
            return


class _Window:
    """The part of the text that is being looked at."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._pieces = pieces(stream)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape").decode
        self._text, self._place, self._is_over = "", 0, False
        self.skip(BLANKS)

    def _more(self) -> bool:
        if self._is_over:
            return False
        data = next(self._pieces, None)
        self._is_over = data is None
        self._text = self._text[self._place :] + self._decode(data or b"", data is None)
        self._place = 0
        return True

    def skip(self, signs: str) -> None:
        while True:
            rest = self._text[self._place : self._place + 64].lstrip(signs)
            step = len(self._text[self._place : self._place + 64]) - len(rest)
            self._place += step
            if rest or (self._place >= len(self._text) and not self._more()):
                return

    def starts_with(self, sign: str) -> bool:
        return self._text.startswith(sign, self._place)

    def take(self, number: int) -> None:
        self._place += number

    def value(self) -> bytes | None:
        """The next JSON value, None where there is none or it is longer than a line may be."""
        while True:
            try:
                _, end = DECODER.raw_decode(self._text, self._place)
            except (ValueError, RecursionError):
                if len(self._text) - self._place > LINE_LIMIT or not self._grow():
                    return None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on behind the edge
            found = self._text[self._place : end]
            self._place = end
            return _bytes(found)

    def _grow(self) -> bool:
        """Twice the text, so that a long value is not read from its start too often."""
        wanted = 2 * (len(self._text) - self._place)
        grew = self._more()
        while grew and len(self._text) < wanted and self._more():
            pass
        return grew

    def rest(self) -> bytes:
        """What is left, at most so much of it as a finding shows; the stream is read no further."""
        return _bytes(self._text[self._place : self._place + KEPT_OF_LONG_LINE]).strip()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\r", b" ").replace(b"\n", b" ")
