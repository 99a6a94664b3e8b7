"""Any container as JSONL: what it is follows from its first bytes, never from its name."""

import base64
import hashlib
import mimetypes
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

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


class Unpacked(msgspec.Struct, frozen=True):
    """`container` names the layers from the outside in, such as "gzip, json array"."""

    container: str
    size: int
    sha256: str


def unpack(path: Path, target: Path, reading: Reading = AS_IT_IS) -> Unpacked | None:
    """Write the file's records to `target`, one a line; None, and nothing written, where it is plain JSONL.

    `target` appears whole or not at all. Raises `Unpackable` in words, and `OSError`.
    """
    with ExitStack() as stack:
        layers, lines = _open(stack, path, target.parent, reading, 0)
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


def _open(stack: ExitStack, path: Path, room: Path, reading: Reading, depth: int) -> tuple[list[str], Iterator[bytes]]:
    """(names of the layers, the lines inside)."""
    if depth > DEEPEST:
        raise Unpackable("The file is packed into too many layers.")
    layers, stream = unwrapped(stack, path)
    head = peek(stream)
    if head[:4] in archives.ZIP or head.startswith(PARQUET):
        if layers:
            raise Unpackable("A zip or Parquet file inside gzip or zstd is not read; send it unpacked.")
        if head.startswith(PARQUET):
            return ["parquet"], tables.parquet_rows(path)
        return _from_archive("zip", stack, archives.opened_zip(path, room), room, reading, depth)
    if head[archives.TAR_AT :].startswith(archives.TAR):
        opened = archives.opened_tar(stream, path.stat().st_size, room)
        names, lines = _from_archive("tar", stack, opened, room, reading, depth)
        return [*layers, *names], lines
    if _is_array(head, path, layers):
        return [*layers, "json array"], json_array.elements(stream)
    if columns := tables.csv_columns(head, reading.fields.values()):
        return [*layers, "csv"], csv_rows.rows(stream, *columns)
    tables.refuse_unknown_columns(head)
    unknown.refuse(head)
    return layers, _plain_lines(stream)


def _from_archive(
    kind: str, stack: ExitStack, opened: Any, room: Path, reading: Reading, depth: int
) -> tuple[list[str], Iterator[bytes]]:
    archive: archives.Archive = stack.enter_context(opened)
    name = archive.data_file()
    layers, lines = _open(stack, archive.files[name], room, reading, depth + 1)
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
