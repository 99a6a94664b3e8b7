"""Rows of a CSV: a bad one is a finding with its line, the others are records."""

import tracemalloc
from pathlib import Path

import pytest

from app.conversations.containers import csv_rows
from app.conversations.containers.reading import Reading
from app.conversations.containers.streams import Unpackable
from app.conversations.containers.unpack import unpack
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation

Told = list[str]
HEAD = b"prompt,completion\n"


def read(folder: Path, data: bytes) -> Told:
    """Questions of good rows, reasons of bad ones."""
    path, lines = folder / "data", folder / "lines"
    path.write_bytes(data)
    found = unpack(path, lines)
    assert found and found.container == "csv"
    return [
        one.turns[0].text if isinstance(one, Conversation) else f"{one.kind}: {one.message}"
        for _, one in read_conversations(lines)
    ]


LEFT_OPEN = "not_json: The CSV is broken at line 3: a quote is left open."
NOT_UTF8 = "not_json: Line 3 of the CSV is not UTF-8; save the file as UTF-8."
EXPECTED = "not_json: The CSV is broken at line 3: ',' expected after '\"'."


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'"a" b,c\n', EXPECTED),
        (b'"bad,x\n', LEFT_OPEN),
        (b'x,"bad\n', LEFT_OPEN),
        (b"caf\xe9,x\n", NOT_UTF8),
        (b"x\n", "wrong_shape: Line 3 of the CSV has 1 cells fewer than the first line has names."),
        (b"x,y,z\n", "wrong_shape: Line 3 of the CSV has 1 cells more than the first line has names."),
        (b'"a\nb" oops,c\n', "not_json: The CSV is broken at lines 3 to 4: ',' expected after '\"'."),
    ],
)
@pytest.mark.parametrize("after", [b"q,a\np,b\n", b'"q",a\n"p",b\n', b'q,"a"\n"p",b\n'])
def test_one_bad_line_costs_one_row(tmp_path: Path, line: bytes, told: str, after: bytes) -> None:
    data = HEAD + b'"o, ""n""",x\n' + line + after
    assert read(tmp_path, data) == ['o, "n"', told, "q", "p"]


def test_cells_over_several_lines_and_other_line_ends_stay(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbfprompt,completion\r\n"a\r\nb, ""c""",x\r\n\r\n"5"" pipe",y\r\n') == [
        'a\r\nb, "c"',
        '5" pipe',
    ]


def test_a_quote_that_is_left_open_in_the_last_line_has_its_line(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + b'q,a\n"a,b\n') == ["q", LEFT_OPEN]


def test_a_bad_row_behind_a_cell_of_several_lines_has_its_line(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + b'"a\nb\nc",x\nq\n')[1].startswith("wrong_shape: Line 5 ")


def test_a_cell_of_any_length_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "LINE_LIMIT", 2**20)
    data = HEAD + b"q,a\n" + b'"' + b"x" * 2**25 + b"\n" + b"y,z\n" * 2**18 + b'",b\np,c\n'
    (tmp_path / "data").write_bytes(data)
    tracemalloc.start()
    unpack(tmp_path / "data", tmp_path / "lines")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    first, told, last = read(tmp_path, data)
    assert (first, last) == ("q", "p")
    assert told.startswith("wrong_shape: The row of the CSV at lines 3 to 262,148: it is longer than 1,048,576 bytes")
    assert peak < 12 * 2**20


def test_quotes_that_are_always_left_open_are_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MOST_AGAIN", 100_000)
    told = read(tmp_path, HEAD + b'x","\n' * 10_000)
    assert len(told) == 3
    assert told[-1] == "not_json: The CSV is broken at lines 4 to 10,001: a quote is left open."


@pytest.mark.parametrize(
    ("head", "fields", "name"),
    [
        ("prompt,response,response", {}, "response"),
        ("prompt,Response,response", {}, "response"),
        ("notes,prompt,notes,response", {}, "notes"),
        ("q,a,q", {"prompt": "q", "response": "a"}, "q"),
    ],
)
def test_a_column_that_stands_twice_is_refused_by_its_name(
    tmp_path: Path, head: str, fields: dict[str, str], name: str
) -> None:
    (tmp_path / "data").write_text(f"{head}\n" + "x," * head.count(",") + "x\n")
    with pytest.raises(Unpackable, match=f"two columns `{name}`"):
        unpack(tmp_path / "data", tmp_path / "lines", Reading(None, fields))


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    assert read(tmp_path, b"prompt,completion,,\nq,a,,\n") == ["q"]
