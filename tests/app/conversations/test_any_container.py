"""Whatever is in a container: it is read, or `Unpackable` says in words why not."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversations.containers.reading import Reading
from app.conversations.containers.streams import Unpackable, zstd
from app.conversations.containers.unpack import unpack
from app.conversations.reader import read_conversations
from tests.app.conversations.test_properties import JSON, MANY, NEARLY
from tests.factories import jsonl, record

LINES = jsonl(record("Zürich?", "1"), record("p", {"a": [1, None]}))
CSV = b'prompt,completion\nq,a\n"p, ""1""\n2",b\n'
READINGS = st.sampled_from([Reading(), Reading("prompt", {"prompt": "question", "response": "answer"})])


def zip_of(data: bytes, name: str = "data.jsonl", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr(name, data)
        packed.writestr("a.png", b"picture")
    return file.getvalue()


def tar_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name, held in (("data.jsonl", data), ("a.png", b"picture")):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            packed.addfile(info, io.BytesIO(held))
    return file.getvalue()


def read(folder: Path, data: bytes, reading: Reading | None = None) -> int | str:
    """How many records, or why it is not read."""
    path, lines = folder / "any", folder / "any.lines"
    path.write_bytes(data)
    try:
        found = unpack(path, lines, reading or Reading())
    except Unpackable as error:
        return error.message
    return sum(1 for _ in read_conversations(lines if found else path))


@given(JSON | NEARLY, st.sampled_from([zip_of, tar_of, gzip.compress]), READINGS)
@MANY
def test_any_record_in_an_archive_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: Any, pack: Callable[[bytes], bytes], reading: Reading
) -> None:
    line = json.dumps(value).encode()
    assert read(tmp_path_factory.getbasetemp(), pack(b"{}\n" + line), reading) == 2


@pytest.mark.parametrize("key", ["messages", "conversations", "prompt", "image", "images"])
@pytest.mark.parametrize("value", [5, True, "a.png", {"a": 1}, [7], {"url": {"url": {"url": "a.png"}}}])
def test_a_key_with_a_value_of_another_sort_is_read(tmp_path: Path, key: str, value: object) -> None:
    assert read(tmp_path, zip_of(json.dumps({key: value}).encode())) == 1


def test_a_deep_record_with_an_image_is_read(tmp_path: Path) -> None:
    deep = b'{"image": "a.png", "x": ' + b'{"url":' * 900 + b"1" + b"}" * 901
    assert read(tmp_path, zip_of(deep)) == 1


MADE = [
    *(zip_of(LINES, method=one) for one in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)),
    *(zip_of(LINES, method=zipfile.ZIP_BZIP2), tar_of(LINES), gzip.compress(tar_of(LINES)), zstd.compress(LINES)),
    *(gzip.compress(LINES), CSV, CSV.replace(b",", b"\t"), LINES, b"[" + LINES.strip().replace(b"\n", b",\n") + b"]"),
]
DAMAGE = st.lists(st.tuples(st.integers(0, 20_000), st.binary(max_size=3), st.integers(0, 4)), max_size=4)


@given(st.binary(max_size=300) | st.sampled_from(MADE), DAMAGE, READINGS)
@MANY
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, damage: list[tuple[int, bytes, int]], reading: Reading
) -> None:
    for place, put, num_out in damage:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + num_out :]
    read(tmp_path_factory.getbasetemp(), data, reading)


@pytest.mark.parametrize("name", [".", "./."])
def test_an_entry_without_a_name_is_refused(tmp_path: Path, name: str) -> None:
    assert "which is no name" in str(read(tmp_path, zip_of(LINES, name)))


def test_an_entry_whose_name_is_empty_is_refused(tmp_path: Path) -> None:
    data = zip_of(LINES).replace(b"data.jsonl", b"\0ata.jsonl")
    assert "a file without a name" in str(read(tmp_path, data))


def test_a_damaged_lzma_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of(LINES * 100, method=zipfile.ZIP_LZMA))
    data[60:90] = bytes(30)
    assert "zip file is damaged" in str(read(tmp_path, bytes(data)))
