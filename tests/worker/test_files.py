import hashlib
from pathlib import Path

import pytest

from worker.files import Part, WrongBytes, holds, link_or_copy, read_json, write_json

HASH = hashlib.sha256(b"ab").hexdigest()


def test_promised_bytes_arrive_whole(tmp_path: Path) -> None:
    part = Part(tmp_path / "new" / "file", 2, HASH)
    part.append([b"a", b"b"], anew=True)
    part.finish()
    assert holds(tmp_path / "new" / "file", 2, HASH)


def test_other_bytes_leave_nothing_behind(tmp_path: Path) -> None:
    part = Part(tmp_path / "file", 5, HASH)
    part.append([b"other"], anew=True)
    with pytest.raises(WrongBytes):
        part.finish()
    assert list(tmp_path.iterdir()) == []


def test_what_came_before_a_break_is_kept(tmp_path: Path) -> None:
    Part(tmp_path / "file", 2, HASH).append([b"a"], anew=True)
    part = Part(tmp_path / "file", 2, HASH)
    assert part.size == 1
    part.append([b"b"], anew=False)
    part.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and holds(tmp_path / "file", 2, HASH)


def test_a_sender_that_starts_over_is_followed(tmp_path: Path) -> None:
    Part(tmp_path / "file", 2, HASH).append([b"a"], anew=True)
    part = Part(tmp_path / "file", 2, HASH)
    part.append([b"ab"], anew=True)
    part.finish()
    assert (tmp_path / "file").read_bytes() == b"ab"


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ac")
    assert not holds(tmp_path / "file", 2, HASH)
    assert not holds(tmp_path / "none", 2, HASH)


def test_a_file_linked_twice_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ab")
    link_or_copy(tmp_path / "file", tmp_path / "deep" / "er")
    link_or_copy(tmp_path / "file", tmp_path / "deep" / "er")
    assert (tmp_path / "deep" / "er").stat().st_ino == (tmp_path / "file").stat().st_ino


def test_json_is_private_and_anything_else_reads_as_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"claim_token": "t"})
    (tmp_path / "b.json").write_text("[1")
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert (read_json(tmp_path / "a.json"), read_json(tmp_path / "b.json")) == ({"claim_token": "t"}, None)
