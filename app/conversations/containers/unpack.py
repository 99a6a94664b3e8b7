"""Any container as JSONL: what it is follows from its first bytes, never from its name."""

import base64
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, NamedTuple

import msgspec

from app.conversations.containers import archives, csv_rows, json_array, tables, unknown
from app.conversations.containers.reading import Reading
from app.conversations.containers.streams import Unpackable, most_bytes, peek, unwrapped
from app.conversations.images import REFERENCE_KEYS
from app.conversations.normalize import is_item_list, json_text
from app.conversations.reader import BOM, LINE_LIMIT, parse
from app.conversations.records import Rejected

PARQUET = b"PAR1"
DEEPEST = 3
HEAD_OF_REST = 4096
AS_IT_IS = Reading()
TURN_KEYS = ("messages", "conversations", "prompt")
LINES_A_TELLING = 16

OnShare = Callable[[float], None]


class Unpacked(msgspec.Struct, frozen=True):
    """`container` names the layers from the outside in, such as "gzip, json array"."""

    container: str
    size: int
    sha256: str


class Room(NamedTuple):
    """Where a file is unpacked, and how: what each layer of it needs. `stack` closes what was opened."""

    stack: ExitStack
    folder: Path
    reading: Reading
    on_share: OnShare


def unpack(
    path: Path, target: Path, reading: Reading = AS_IT_IS, on_share: OnShare = lambda share: None
) -> Unpacked | None:
    """Write the file's records to `target`, one a line; None, and nothing written, where it is plain JSONL.

    `target` appears whole or not at all. `on_share` gets the share of the file that was read; of an archive that of
    its data file, of Parquet nothing. Raises `Unpackable` in words, and `OSError`.
    """
    with ExitStack() as stack:
        layers, lines = _open(Room(stack, target.parent, reading, on_share), path, 0)
        if not layers and reading == AS_IT_IS:
            return None
        if reading != AS_IT_IS:
            lines = map(reading.apply, lines)
        return _write(lines, target, ", ".join(layers) or "jsonl", most_bytes(path.stat().st_size))


def _write(lines: Iterator[bytes], target: Path, container: str, most: int) -> Unpacked:
    digest, size = hashlib.sha256(), 0
    with NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as file:
        try:
            for line in lines:
                piece = line + b"\n"
                digest.update(piece)
                size += file.write(piece)
                if size > most:
                    raise Unpackable(f"Its records, with their images, take more than {most:,} bytes.")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return Unpacked(container, size, digest.hexdigest())


def _open(room: Room, path: Path, depth: int) -> tuple[list[str], Iterator[bytes]]:
    """(names of the layers, the lines inside)."""
    if depth > DEEPEST:
        raise Unpackable("The file is packed into too many layers.")
    layers, stream, file = unwrapped(room.stack, path)
    head = peek(stream)
    if head[:4] in archives.ZIP or head.startswith(PARQUET):
        if layers:
            raise Unpackable("A zip or Parquet file inside gzip or zstd is not read; send it unpacked.")
        if head.startswith(PARQUET):
            return ["parquet"], tables.parquet_rows(path)
        return _from_archive("zip", room, archives.opened_zip(path, room.folder), depth)
    if head[archives.TAR_AT :].startswith(archives.TAR):
        opened = archives.opened_tar(stream, path.stat().st_size, room.folder)
        names, lines = _from_archive("tar", room, opened, depth)
        return [*layers, *names], lines
    if _is_array(head, path, layers):
        layers, lines = [*layers, "json array"], json_array.elements(stream)
    elif columns := tables.csv_columns(head, room.reading.fields.values()):
        layers, lines = [*layers, "csv"], csv_rows.rows(stream, *columns)
    else:
        tables.refuse_unknown_columns(head)
        unknown.refuse(head)
        lines = _plain_lines(stream)
    return layers, _told(lines, file, path.stat().st_size, room.on_share)


def _told(lines: Iterator[bytes], file: IO[bytes], size: int, on_share: OnShare) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number % LINES_A_TELLING == 0:
            on_share(file.tell() / max(1, size))
        yield line


def _from_archive(kind: str, room: Room, opened: Any, depth: int) -> tuple[list[str], Iterator[bytes]]:
    archive: archives.Archive = room.stack.enter_context(opened)
    name = archive.data_file()
    layers, lines = _open(room, archive.files[name], depth + 1)
    return [kind, *layers], (_with_images(line, archive, name) for line in lines)


def _is_array(head: bytes, path: Path, layers: list[str]) -> bool:
    """An array of objects; JSONL whose first line is a list of something else, or a whole one, is no array."""
    text = head.removeprefix(BOM).lstrip()
    if not text.startswith(b"[") or not text[1:].lstrip().startswith(b"{"):
        return False
    if layers:
        return True
    with path.open("rb") as file:
        first = file.readline(LINE_LIMIT).strip()
        return not first.endswith(b"]") or not file.read(HEAD_OF_REST).strip()


def _plain_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines without their ends and a byte order mark; one beyond the limit comes cut, which a finding then says."""
    if peek(stream).startswith(BOM):
        stream.read(len(BOM))
    while line := stream.readline(LINE_LIMIT + 2):
        if not line.endswith(b"\n"):
            while (rest := stream.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
                pass
        yield line.rstrip(b"\r\n")


def _with_images(line: bytes, archive: archives.Archive, beside: str) -> bytes:
    """The line with each image that the archive holds as a data URI in place of its path, until it is too long."""
    try:
        value = parse(line)
    except Rejected:
        return line
    if not isinstance(value, dict):
        return line
    size = 0
    for holder, key in _references(value):
        size += _embed(holder, key, archive, beside)
        if size > LINE_LIMIT:
            break
    try:
        return json_text(value).encode() if size else line
    except RecursionError:
        return line


def _references(value: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of everything that may name an image."""
    for key in ("image", "images"):
        found = value.get(key)
        yield from ((found, place) for place in range(len(found))) if isinstance(found, list) else [(value, key)]
    for turn in next((turns for key in TURN_KEYS if isinstance(turns := value.get(key), list)), ()):
        content = (turn.get("content") or turn.get("value")) if isinstance(turn, dict) else None
        if is_item_list(content):
            for item in content:  # type: ignore[union-attr]
                yield from ((item, key) for key in REFERENCE_KEYS if item["type"] != "text")


def _embed(holder: Any, key: Any, archive: archives.Archive, beside: str) -> int:
    """How many characters the image takes now; 0 where there is none."""
    found = holder[key] if isinstance(holder, list) else holder.get(key)
    if isinstance(found, dict):
        holder, key = found, "url" if found.get("url") else "path"
        found = holder.get(key)
    if not isinstance(found, str) or found[:5] == "data:":
        return 0
    data = archive.image(found, beside)
    if data is None:
        return 0
    kind = mimetypes.guess_type(found)[0] or "image/png"
    holder[key] = made = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return len(made)
