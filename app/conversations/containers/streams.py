"""Bytes out of compressed files, counted, so that a small file cannot unpack into an endless one."""

import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol, cast

from app.errors import AppError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a frame of zstd that holds no data may come first
HEAD = 64 * 2**10
MOST_BYTES = 64 * 2**30
# Texts pack to a tenth, very even ones to a hundredth; what unpacks to far more was made to.
MOST_TIMES, ALWAYS_FINE = 300, 256 * 2**20
BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zstd.ZstdError)


def most_bytes(packed_size: int) -> int:
    """What a file of that size may hold before it counts as a trap."""
    return min(MOST_BYTES, max(ALWAYS_FINE, MOST_TIMES * packed_size))


class Unpackable(AppError):
    status_code, code, message = 422, "cannot_unpack", "The file cannot be unpacked."


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Metered(io.RawIOBase):
    """A stream that ends with `Unpackable` where it grows beyond all measure, or is damaged."""

    def __init__(self, inner: Readable, packed_size: int, kind: str) -> None:
        self._inner, self._kind, self._total = inner, kind, 0
        self._most = most_bytes(packed_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer))
        try:
            data = self._inner.read(len(view))
        except BROKEN as error:
            raise Unpackable(f"The {self._kind} data is damaged or was cut: {error}.") from None
        self._total += len(data)
        if self._total > self._most:
            raise Unpackable(f"The {self._kind} data unpacks to more than {self._most:,} bytes, which is not taken.")
        view[: len(data)] = data
        return len(data)


def unwrapped(stack: ExitStack, path: Path) -> tuple[list[str], IO[bytes], IO[bytes]]:
    """(names of the layers, the bytes inside them, the file itself), open as long as the stack is."""
    file = stack.enter_context(path.open("rb", buffering=HEAD))
    head = file.read(4)
    file.seek(0)
    if head.startswith(GZIP):
        return ["gzip"], _metered(stack.enter_context(gzip.GzipFile(fileobj=file)), path, "gzip"), file
    if head == ZSTD or SKIPPED.match(head):
        return ["zstd"], _metered(stack.enter_context(zstd.ZstdFile(file)), path, "zstd"), file
    return [], file, file


def _metered(inner: Readable, path: Path, kind: str) -> IO[bytes]:
    return cast(IO[bytes], io.BufferedReader(Metered(inner, path.stat().st_size, kind), 1 << 20))


def peek(stream: IO[bytes]) -> bytes:
    """The first bytes; they stay to be read."""
    return cast(io.BufferedReader, stream).peek(HEAD)[:HEAD]


def pieces(stream: Readable, size: int = 1 << 20) -> Iterator[bytes]:
    while data := stream.read(size):
        yield data
