"""Files that nobody meant as a dataset, or that are one in an odd form: a sentence or findings, never an exception."""

import gzip
import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.conversations.containers.reading import Reading
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
        (b"\x7fELF\x00\r\x00" + bytes(100), "The file is no text"),
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


@pytest.mark.parametrize("header", [b"Prompt,Completion,Note", b"Instruction;Output;more", b"PROMPT\tResponse\tid"])
def test_columns_are_known_in_large_letters(tmp_path: Path, header: bytes) -> None:
    sign = header[len(header.split(b",")[0].split(b";")[0].split(b"\t")[0]) :][:1]
    lines = unpacked(tmp_path, header + b"\n" + sign.join([b"q", b"a", b"n"]) + b"\n")
    record = json.loads(lines)
    assert set(record) >= {"prompt", "completion"} or set(record) >= {"instruction", "output"} or "response" in record


def test_own_names_of_columns_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"Prompt,Answer\nq,a\n")
    reading = Reading("prompt", {"prompt": "Prompt", "response": "Answer"})
    assert unpack(tmp_path / "data", tmp_path / "lines", reading)
    assert json.loads((tmp_path / "lines").read_bytes()) == {"prompt": "q", "response": "a"}


@pytest.mark.parametrize(
    "data",
    [
        b"question,answer\nq,a\n",
        b"\xef\xbb\xbfquestion;answer\r\n" + b'"a;\nb";c\r\n' * 40_000,
        gzip.compress(b"id\tquestion\tanswer\n1\tq\ta\n"),
    ],
)
def test_a_table_with_other_columns_says_how_to_name_them(tmp_path: Path, data: bytes) -> None:
    words = r"a CSV with the columns .*`question`, `answer`, .*shape=prompt&fields=prompt=question,response=answer"
    with pytest.raises(Unpackable, match=words):
        unpacked(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        b"one, two\n" + LINES,
        b"Dear Sir, hello\nwhat?\n",
        b"a,b\n",
        b'"a,b\nc,d\n',
        b'{"a": 1}, {"b": 2}\n' * 2,
        b",\n,\n",
    ],
)
def test_what_only_has_commas_is_no_table(tmp_path: Path, data: bytes) -> None:
    assert unpacked(tmp_path, data) == data


@pytest.mark.parametrize("value", [record("q", "a"), {"data": [record("q", "a" * 5000)] * 50}])
def test_one_object_on_several_lines_is_said_in_a_sentence(tmp_path: Path, value: object) -> None:
    with pytest.raises(Unpackable, match="one JSON object on several lines"):
        unpacked(tmp_path, json.dumps(value, indent=2).encode())
    torn = b"{\n" + LINES
    assert unpacked(tmp_path, torn) == torn
