"""What a machine keeps of datasets and base models, and what it lets go."""

import os
from pathlib import Path

import pytest

from tests.worker.fake_server import sha256
from worker import cache as cache_module
from worker.cache import Cache
from worker.messages import FileSpec


def put(cache: Cache, text: str, used: int) -> Path:
    """A cached dataset of these bytes, last used at that second."""
    entry = cache.dataset(sha256(text.encode()))
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(text)
    cache.hold(entry)
    cache.close()
    os.utime(cache._mark(entry).with_suffix(".lock"), (used, used))
    return entry


def spec(text: str) -> FileSpec:
    return FileSpec(path="dataset", size=len(text), sha256=sha256(text.encode()))


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=30)
    entries = [put(cache, text * 10, used) for text, used in (("a", 3), ("b", 1), ("c", 2))]
    tokens = tmp_path / "datasets" / "tokens" / "arrays"
    tokens.parent.mkdir()
    tokens.write_text("t" * 100)
    cache.make_room(15)
    assert [entry.exists() for entry in entries] == [True, False, False]
    cache.make_room(20)
    assert entries[0].exists() and tokens.exists()


def test_what_a_running_job_uses_stays(tmp_path: Path) -> None:
    cache, running = Cache(tmp_path, limit=10), Cache(tmp_path, limit=10)
    used, unused = put(cache, "a" * 10, 1), put(cache, "b" * 10, 2)
    running.hold(used)
    cache.make_room(10)
    assert (used.exists(), unused.exists()) == (True, False)
    running.close()
    cache.make_room(10)
    assert not used.exists()


def test_a_job_s_own_model_is_not_thrown_away_for_its_dataset(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=5)
    folder = cache.model([spec("weights")])
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    cache.hold(folder)
    cache.make_room(10)
    cache.close()
    assert folder.exists()
    cache.make_room(10)
    assert not folder.exists()


def test_bytes_are_read_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, limit=100)
    entry = put(cache, "text", 1)
    assert cache.has(entry, spec("text"), entry)
    read: list[Path] = []
    monkeypatch.setattr(cache_module, "holds", lambda path, size, sha256: read.append(path))
    assert Cache(tmp_path, limit=100).has(entry, spec("text"), entry) and read == []
    entry.write_text("tex!")
    os.utime(entry, (5, 5))
    assert not cache.has(entry, spec("text"), entry) and read == [entry]


def test_nothing_is_taken_for_there_that_is_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=100)
    assert not cache.has(tmp_path / "none", spec("text"), tmp_path / "none")
    entry = put(cache, "other", 1)
    assert not cache.has(entry, spec("text"), entry)


def test_one_lane_fetches_while_another_waits_and_may_be_called_off(tmp_path: Path) -> None:
    one, other = Cache(tmp_path, limit=1), Cache(tmp_path, limit=1)
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        raise InterruptedError

    with one.fetching(tmp_path / "a", check), pytest.raises(InterruptedError), other.fetching(tmp_path / "a", check):
        pytest.fail("two lanes fetch at once")
    with other.fetching(tmp_path / "a", check):
        assert asked == [1]


def test_parts_that_nobody_goes_on_with_are_dropped(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=100)
    old, new = tmp_path / "datasets" / ".old.part", tmp_path / "datasets" / ".new.part"
    old.parent.mkdir()
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    cache.make_room(1)
    assert (old.exists(), new.exists()) == (False, True)
