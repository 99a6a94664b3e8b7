"""Files that nobody meant as a dataset, or that are one in an odd form: a sentence or findings, never an exception."""

import gzip
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.conversations.containers.streams import Unpackable, zstd
from app.conversations.containers.unpack import unpack
from tests.factories import jsonl, record

LINES = jsonl(record("q", "a"), record("p", "b"))
SKIPPED = b"\x50\x2a\x4d\x18\x04\x00\x00\x00four"


def unpacked(folder: Path, data: bytes) -> bytes:
    (folder / "data").write_bytes(data)
    found = unpack(folder / "data", folder / "lines")
    return (folder / ("lines" if found else "data")).read_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\r\n%\xe2\xe3\xcf\xd3\r\n1 0 obj\r", "The file is a PDF"),
        (gzip.compress(gzip.compress(LINES)), "gzip data inside another layer"),
        (LINES.decode().encode("utf-16"), "text in UTF-16"),
        (LINES.decode().encode("utf-16-le")[1:], "The file is no text"),
        (LINES.replace(b"\n", b"\r"), "carriage return alone"),
        (b"\x7fELF\x00\r\x00", "The file is no text"),
    ],
)
def test_a_file_of_another_sort_is_said_in_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(Unpackable, match=words):
        unpacked(tmp_path, data)
    done = CliRunner().invoke(cli, ["check", str(tmp_path / "data")])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("data", [b"a\rb\n" + LINES, b'"a\r"b,c\n' + LINES, b'"\r,"' * 9])
def test_a_carriage_return_in_the_first_line_is_a_finding(tmp_path: Path, data: bytes) -> None:
    assert unpacked(tmp_path, data) == data
    assert CliRunner().invoke(cli, ["check", str(tmp_path / "data")]).exit_code == 1


def test_random_bytes_are_findings_or_a_sentence(tmp_path: Path) -> None:
    codes = set()
    for seed in range(30):
        (tmp_path / "data").write_bytes(random.Random(seed).randbytes(3000))
        codes.add(CliRunner().invoke(cli, ["check", str(tmp_path / "data")]).exit_code)
    assert codes <= {1, 2}


def test_a_table_whose_lines_end_with_a_carriage_return_is_read(tmp_path: Path) -> None:
    assert unpacked(tmp_path, b"prompt,completion\rq,a\rp,b\r").count(b'"completion"') == 2


def test_zstd_with_a_frame_that_holds_nothing_is_read(tmp_path: Path) -> None:
    assert unpacked(tmp_path, SKIPPED + zstd.compress(LINES)) == LINES
