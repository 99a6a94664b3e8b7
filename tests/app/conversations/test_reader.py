import tracemalloc
from pathlib import Path

import pytest

from app.conversations.reader import parse, read_conversations, read_lines, valid_conversations
from app.conversations.records import Rejected

GOOD = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'


def written(folder: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    path = folder / "data.jsonl"
    path.write_bytes(end.join(lines))
    return path


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    path = written(tmp_path, b"1", b"", b" \t ", b"2", b"")
    assert [(line.number, line.value) for line in read_lines(path)] == [(1, 1), (4, 2)]


def test_a_mark_at_the_start_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf1", b"2", end=b"\r\n")
    assert [(line.value, line.error) for line in read_lines(path)] == [(1, None), (2, None)]


def test_the_last_line_needs_no_line_end_and_ends_tell_how_far_the_file_is_read(tmp_path: Path) -> None:
    assert [line.end for line in read_lines(written(tmp_path, b"10", b"200"))] == [3, 6]


@pytest.mark.parametrize("size", [100, 101, 250, 1000])
def test_a_line_over_the_limit_is_one_finding_and_the_next_is_read(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, b"1", b'"' + b"x" * (size - 2) + b'"', b"3")
    lines = list(read_lines(path, limit=100))
    assert [(line.number, line.error is None) for line in lines] == [(1, True), (2, size <= 100), (3, True)]


def test_a_huge_line_costs_no_more_memory_than_the_limit(tmp_path: Path) -> None:
    path = written(tmp_path, b"x" * 30_000_000, GOOD)
    tracemalloc.start()
    numbers = [line.number for line in read_lines(path, limit=1_000_000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == [1, 2]
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1', "Not JSON at column 8: Expecting ',' delimiter."),
        (b"hello", "Not JSON at column 1: Expecting value."),
        (b"1 2", "Not JSON at column 3: Extra data."),
        (b'"a\x01b"', "Not JSON at column 3: Invalid control character at."),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'"caf\xe9"', "Byte 5 is not UTF-8."),
        (b'"x\\ud83d"', "\\ud83d at byte 3 is half of a surrogate pair"),
        (b'"\\ud83d\\ude00 \\uDE00"', "\\ude00 at byte 15 is half of a surrogate pair"),
        (b'"\\uD83D\\ud83d\\ude00"', "\\ud83d at byte 2 is half of a surrogate pair"),
        (b'"\\\\ud83d \\ud83d\\u0041"', "\\ud83d at byte 10 is half of a surrogate pair"),
        (b'"\xed\xa0\x80"', "Byte 2 is not UTF-8."),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b"\x00\x01", "Not JSON at column 1"),
    ],
)
def test_what_is_not_json_is_rejected_with_place_and_reason(raw: bytes, words: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(raw)
    assert caught.value.kind == "not_json"
    assert words in caught.value.message


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert parse(b'{"a": 1, "a": 2}') == {"a": 2}


def test_big_integers_come_through_whole() -> None:
    assert parse(str(10**50).encode()) == 10**50


def test_every_line_comes_back_as_a_conversation_or_a_reason(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, b"{", b"[]", GOOD)
    found = [one.kind if isinstance(one, Rejected) else "valid" for _, one in read_conversations(path)]
    assert found == ["valid", "not_json", "wrong_shape", "valid"]
    assert [number for number, _ in valid_conversations(path)] == [1, 4]


def test_content_nested_to_the_edge_of_what_can_be_read_is_no_crash(tmp_path: Path) -> None:
    deep = [b'{"messages": [{"role": "user", "content": ' + b"[" * n + b"]" * n + b"}]}" for n in range(100, 1000, 50)]
    kinds = {one.kind for _, one in read_conversations(written(tmp_path, *deep)) if isinstance(one, Rejected)}
    assert kinds <= {"no_answer", "not_json", "wrong_shape"}
    assert len(list(read_lines(tmp_path / "data.jsonl"))) == len(deep)
