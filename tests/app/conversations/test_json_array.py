"""A JSON array with a broken or very long element: that one is a finding, the others are records."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversations.containers.json_array import _Ends
from app.conversations.containers.unpack import unpack
from app.conversations.reader import conversation_of, read_lines
from app.conversations.records import Conversation, Rejected
from tests.app.conversations.test_properties import MANY as OFTEN
from tests.factories import record

MANY = [record(f"question {n}", {"answers": [{"n": n}, {"n": n + 1}]}) for n in range(1000)]
TALKS = [{"id": n, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]} for n in range(9)]


def compact(records: list[Any]) -> str:
    return json.dumps(records, separators=(",", ":"))


def indented(records: list[Any]) -> str:
    return json.dumps(records, indent=2)


def on_lines(records: list[Any]) -> str:
    return "[" + ",\n".join(json.dumps(one) for one in records) + "]"


def commas_first(records: list[Any]) -> str:
    return "[\r\n" + "\r\n, ".join(json.dumps(one) for one in records) + "\r\n]\r\n"


LAYOUTS = [compact, json.dumps, indented, on_lines, commas_first]


def read(folder: Path, data: str | bytes, limit: int | None = None) -> list[Conversation | Rejected]:
    path, lines = folder / "data", folder / "lines"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = unpack(path, lines)
    assert found and found.container == "json array"
    return [conversation_of(line) for line in (read_lines(lines, limit) if limit else read_lines(lines))]


def broken(found: list[Conversation | Rejected]) -> list[tuple[int, str, str]]:
    return [(n, one.kind, one.message) for n, one in enumerate(found) if isinstance(one, Rejected)]


BREAKS = [
    lambda text: text.replace('"role"', '"role', 1),
    lambda text: text.replace('"question', "question", 1),
    lambda text: text.replace("}", "", 1),
    lambda text: text.replace("]", "", 1),
    lambda text: text.replace("[", "[[", 1),
    lambda text: text.rstrip("} \n"),
    lambda text: text.replace('"messages"', 'messages"', 1),
    lambda text: text.replace('"content"', '"content":', 1),
]


@pytest.mark.parametrize("at", [0, 1, 500])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", BREAKS)
def test_one_broken_element_is_one_finding_and_the_others_are_records(
    tmp_path: Path, layout: Any, damage: Any, at: int
) -> None:
    mark = record("question MARK", "a")
    text = layout([*MANY[:at], mark, *MANY[at + 1 :]])
    (start,) = [found.start() for found in re.finditer(r'\{\s*"messages":[^M}]*MARK', text)]
    _, end = json.JSONDecoder().raw_decode(text, start)
    found = read(tmp_path, text[:start] + damage(text[start:end]) + text[end:])
    assert [(n, kind) for n, kind, _ in broken(found)] == [(at, "not_json")]
    assert len(found) == 1000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_element_without_its_first_brace_is_one_finding(tmp_path: Path, layout: Any) -> None:
    found = read(tmp_path, re.sub(r'\{(\s*"messages":[^1}]*question 1")', r"\1", layout(MANY[:9])))
    assert ([n for n, _, _ in broken(found)], len(found)) == ([1], 9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_of_several_broken_elements_is_a_finding(tmp_path: Path, layout: Any) -> None:
    text = layout(MANY[:20])
    for number in (3, 4, 5, 11):
        text = text.replace(f'"question {number}"', f'"question {number}')
    assert [n for n, _, _ in broken(read(tmp_path, text))] == [3, 4, 5, 11]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_elements_that_begin_with_a_number_of_theirs_are_found_again(tmp_path: Path, layout: Any) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}} for _ in range(2)]
    talks = [{**one, "calls": calls} for one in TALKS]
    text = re.sub(r'("id":\s*4,\s*"conversations":\s*\[\s*\{\s*"from":\s*"human)"', r"\1", layout(talks))
    found = read(tmp_path, text)
    assert ([n for n, _, _ in broken(found)], len(found)) == ([4], 9)


def test_elements_with_keys_in_another_order_are_found_again(tmp_path: Path) -> None:
    records = [{"prompt": "q", "completion": "a", "id": 1}, 5, {"id": 2, "completion": "a", "prompt": "q"}]
    found = read(tmp_path, json.dumps(records).replace("5", '{"prompt": "q}'))
    assert ([n for n, _, _ in broken(found)], len(found)) == ([1], 3)


@pytest.mark.parametrize(
    ("data", "num_good", "words"),
    [
        (on_lines(MANY[:2])[:-20], 1, r"Not JSON at column \d+.*The rest of the file, \d+ bytes, was not read"),
        (on_lines(MANY[:2])[:-1], 2, "Not JSON: the array ends without its bracket"),
        (on_lines(MANY[:2]) + " more", 2, "behind the end of the array. The rest of the file, 4 bytes, was not read"),
        ('[{"messages": NaN}]', 0, "NaN is not JSON"),
        ('[{"a":' * 5 + "[" * 200_000, 0, "nested too deeply .* The rest of the file, 200,029 bytes, was not read"),
    ],
)
def test_what_is_lost_at_the_end_is_one_finding(tmp_path: Path, data: str, num_good: int, words: str) -> None:
    found = read(tmp_path, data)
    assert sum(isinstance(one, Conversation) for one in found) == num_good
    assert isinstance(found[-1], Rejected) and re.search(words, found[-1].message)


def test_commas_too_many_or_too_few_lose_nothing(tmp_path: Path) -> None:
    first, second, third = (json.dumps(one) for one in MANY[:3])
    assert broken(read(tmp_path, f"[{first},,{second}\n{third},]")) == []


NESTED = st.recursive(
    st.text('"\\{}[]x'), lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\}'), inner), max_leaves=8
)


@given(NESTED, st.data())
@OFTEN
def test_the_end_of_a_value_is_found_in_pieces_of_it(value: Any, data: st.DataObject) -> None:
    wanted = json.dumps({"a": value})
    ends, left, passed, text = _Ends(), wanted + ' }],{"x"', 0, ""
    while not ends.is_reached:
        number = data.draw(st.integers(1, 5))
        text, left = text + left[:number], left[number:]
        at = ends.look(text, 0)
        passed, text = passed + at, text[at:]
    assert passed == len(wanted)


def test_an_element_that_is_too_long_is_skipped_as_a_line_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("window", "json_array", "unpack"):
        monkeypatch.setattr(f"app.conversations.containers.{module}.LINE_LIMIT", 2 * 2**20)
    long = record('"}],{\\' * 3_000_000, "a")
    text = on_lines([MANY[0], long, MANY[1]]).encode()
    (tmp_path / "data").write_bytes(text)
    tracemalloc.start()
    unpack(tmp_path / "data", tmp_path / "lines")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = [conversation_of(line) for line in read_lines(tmp_path / "lines")]
    message = "The line, with the images in it, is longer than 2,097,152 bytes and was not read."
    assert (broken(found), len(found)) == ([(1, "wrong_shape", message)], 3)
    assert peak < 12 * 2**20


def test_what_is_broken_for_longer_than_a_line_may_be_is_told_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("window", "json_array"):
        monkeypatch.setattr(f"app.conversations.containers.{module}.LINE_LIMIT", 2 * 2**20)
    text = on_lines([MANY[0], 5, MANY[1]])
    ((_, kind, message),) = broken(read(tmp_path, text.replace("5", '{"messages": oops' + "x" * 6_000_000)))
    assert (kind, re.sub(r"[\d,]+ bytes", "N bytes", message)) == (
        "not_json",
        "Not JSON at column 14: Expecting value. N bytes up to the next element were not read.",
    )
