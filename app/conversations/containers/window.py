"""The part of a long JSON text that is being looked at."""

import codecs
import json
import re
from typing import IO

from app.conversations.containers.streams import pieces
from app.conversations.reader import LINE_LIMIT

# Numbers are only gone over, however long they are.
DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
# A sign that is cut off at the edge of the window, such as \ud83d or -Infinity, is shorter.
LONGEST_SIGN = 16
NO_BLANK = re.compile(r"[^ \t\r\n]")
BEHIND = ",]{"  # where a comma is missing, nothing is lost


class Window:
    """A text and a place in it. What lies before the place is forgotten with the next piece that is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._pieces = pieces(stream)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape").decode
        self.text, self.place, self.is_over = "", 0, False

    def more(self) -> bool:
        """Reads a piece; False where there is none."""
        if self.is_over:
            return False
        data = next(self._pieces, None)
        self.is_over = data is None
        self.text = self.text[self.place :] + self._decode(data or b"", data is None)
        self.place = 0
        return True

    def grow(self) -> bool:
        """Twice the text, so that a long value is not read from its start too often."""
        wanted = 2 * (len(self.text) - self.place)
        grew = self.more()
        while grew and len(self.text) < wanted and self.more():
            pass
        return grew

    @property
    def is_full(self) -> bool:
        """Whether more is in view than a line may have."""
        return len(self.text) - self.place > LINE_LIMIT

    @property
    def is_at_end(self) -> bool:
        return self.is_over and self.place >= len(self.text)

    def skip(self, signs: str) -> str:
        """What was skipped, its end where that is long."""
        skipped = ""
        while True:
            seen = self.text[self.place : self.place + 64]
            rest = seen.lstrip(signs)
            self.place += len(seen) - len(rest)
            skipped = (skipped + seen[: len(seen) - len(rest)])[-64:]
            if rest or (self.place >= len(self.text) and not self.more()):
                return skipped

    def starts_with(self, sign: str) -> bool:
        return self.text.startswith(sign, self.place)

    def take(self, number: int) -> str:
        taken = self.text[self.place : self.place + number]
        self.place += len(taken)
        return taken

    def value(self) -> tuple[object, int]:
        """The next JSON value and where it ends. Raises `ValueError` with the reason where there is none, and `Endless`
        where it has not ended when the window is full."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except RecursionError:
                raise ValueError("Not JSON: it is nested too deeply to be read.") from None
            except json.JSONDecodeError as error:
                if not is_cut(error) or self.is_over:
                    raise ValueError(self._reason(error.pos, error.msg)) from None
                if self.is_full:
                    raise Endless from None
                self.grow()
                continue
            behind = NO_BLANK.search(self.text, end)
            if behind is None and not self.is_full and self.more():
                continue  # a number may go on behind the edge
            if behind and behind[0] not in BEHIND:
                raise ValueError(self._reason(behind.start(), "Expecting ',' or ']' behind the element"))
            return value, end

    def _reason(self, at: int, message: str) -> str:
        return f"Not JSON at column {at - self.place + 1}: {message}."


def is_cut(error: json.JSONDecodeError) -> bool:
    """Whether more text might mend it."""
    return error.msg.startswith("Unterminated") or error.pos + LONGEST_SIGN > len(error.doc)


class Endless(Exception):
    """A value that has not ended within as much as a line may have."""
