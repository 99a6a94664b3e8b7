"""A file on its way in: the raw body or the `file` part of a form, as chunks, never whole in memory."""

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from app.errors import AppError, TooLarge, wrong_field

IDLE_S = 60.0


class SenderGone(AppError):
    status_code, code, message = 400, "upload_cut", "The upload stopped before its end; nothing of it was kept."


def told_size(request: Request) -> int:
    """Bytes that the sender announced; 0 where it did not."""
    told = request.headers.get("content-length", "")
    return int(told[:20]) if told.isascii() and told.isdigit() else 0


async def body_chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The request's body; a sender that stalls for a minute or goes away is given up on."""
    if told_size(request) > limit:
        raise TooLarge(f"The file is larger than the limit of {limit:,} bytes.")
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                chunk = await anext(stream, None)
        except (TimeoutError, ClientDisconnect) as error:
            raise SenderGone from error
        if chunk is None:
            return
        if chunk:
            yield chunk


def is_form(request: Request) -> bool:
    """Only multipart counts: curl sends raw bodies under a form type of its own."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


class FormFile:
    """The first part named `file` of a multipart body; `name` is known once its first chunk came."""

    def __init__(self, request: Request) -> None:
        _, options = parse_options_header(request.headers["content-type"])
        if not (boundary := options.get(b"boundary")):
            raise wrong_field("file", "the form has no boundary; send it as curl -F file=@NAME does")
        self.name = ""
        self.found = False
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        self._inside = self._complete = False
        self._parser = self._make_parser(boundary)

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise wrong_field("file", f"the form cannot be read: {error}") from error

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    async def chunks(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the file's part; raises `WrongInput` for a broken form or one without such a part."""
        async for data in body:
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise wrong_field("file", f"the form cannot be read: {error}") from error
            while not self._pieces.empty():
                yield self._pieces.get_nowait()
        if not self._complete:
            raise wrong_field("file", "the form ends before its closing boundary; send it again")
        if not self.found:
            raise wrong_field("file", "the form has no part of that name")

    def _begin(self) -> None:
        self._disposition = b""
        self._header_name.clear()
        self._header_value.clear()

    def _end_header(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if not self.found and options.get(b"name") == b"file":
            self.found = self._inside = True
            self.name = options.get(b"filename", b"").decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._pieces.put(bytes(data[start:end]))

    def _end_part(self) -> None:
        self._inside = False

    def _end(self) -> None:
        self._complete = True
