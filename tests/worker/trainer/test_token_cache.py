"""Tokens kept on disk: the same examples as without, and never those of another job."""

import os
from pathlib import Path
from typing import Any

import pytest

from app.conversations.render import Renderer
from app.schemas import TrainingConfig
from tests.tiny import conversation, make_job, of_kind, picture_conversation, run_job, write_jsonl
from worker.trainer.encode import Records, encode_file
from worker.trainer.token_cache import ARRAYS, TokenCache, cache_key


@pytest.fixture(scope="module")
def renderer(model_dir: Path) -> Renderer:
    return Renderer.load(model_dir)


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    return TokenCache(tmp_path / "tokens")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    records = [conversation(0), picture_conversation(1, 2), {"messages": []}, conversation(3), picture_conversation(4)]
    return write_jsonl(tmp_path / "d.jsonl", records)


def encoded(path: Path, renderer: Renderer) -> Records:
    return encode_file(path, renderer, TrainingConfig(), lambda count: None)


def plain(found: Records) -> list[Any]:
    rows = [
        one and (one.line, one.ids.tolist(), one.targets.tolist(), one.images, one.grids, one.spans)
        for one in found.records
    ]
    return [rows, found.num_injected, found.num_rejected, found.first_error]


def test_what_is_read_is_what_was_written(renderer: Renderer, cache: TokenCache, dataset: Path) -> None:
    found = encoded(dataset, renderer)
    found.records.insert(2, None)
    assert cache.write("k", found)
    again = cache.read("k")
    assert again and plain(again) == plain(found)


def test_a_dataset_without_a_valid_record_is_kept_too(cache: TokenCache) -> None:
    assert cache.write("k", Records([None], 0, 1, "line 1: no"))
    assert plain(cache.read("k") or Records()) == [[None], 0, 1, "line 1: no"]


def test_damaged_tokens_are_thrown_away(renderer: Renderer, cache: TokenCache, dataset: Path) -> None:
    cache.write("k", encoded(dataset, renderer))
    path = cache.folder / "k" / ARRAYS
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    assert cache.read("k") is None and not path.exists()


def test_the_least_recently_used_go_when_all_are_too_large(
    renderer: Renderer, cache: TokenCache, dataset: Path
) -> None:
    found = encoded(dataset, renderer)
    for age, key in enumerate("abc"):
        cache.write(key, found)
        os.utime(cache.folder / key, (1000 - age, 1000 - age))
    size = sum(one.stat().st_size for one in (cache.folder / "a").iterdir())
    cache.read("c")
    TokenCache(cache.folder, max_bytes=2 * size + 9).write("d", found)
    assert sorted(os.listdir(cache.folder)) == ["c", "d"]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert not TokenCache(tmp_path / "file").write("k", Records())


@pytest.mark.parametrize(
    "setting", [{"system_prompt": "Be kind."}, {"train_on": "last_answer"}, {"max_pixels": 100_000}]
)
def test_what_changes_the_tokens_changes_the_key(renderer: Renderer, dataset: Path, setting: dict[str, Any]) -> None:
    usual = cache_key(dataset, renderer, TrainingConfig())
    assert cache_key(dataset, renderer, TrainingConfig(**setting)) != usual
    assert cache_key(dataset, renderer, TrainingConfig(max_length=77, truncation="left", seed=3)) == usual


def test_another_line_changes_the_key(renderer: Renderer, dataset: Path) -> None:
    usual = cache_key(dataset, renderer, TrainingConfig())
    dataset.write_bytes(dataset.read_bytes() + b"{}\n")
    assert cache_key(dataset, renderer, TrainingConfig()) != usual


def test_a_second_job_on_the_same_tokens_learns_the_same(tmp_path: Path, model_dir: Path) -> None:
    records = [conversation(i) for i in range(12)]
    losses = []
    for name in ("first", "second"):
        spec = make_job(tmp_path / "job", model_dir, records, use_qlora=False)
        (tmp_path / "job" / "events.jsonl").unlink(missing_ok=True)
        assert run_job(tmp_path / "job")["outcome"] == "succeeded", name
        losses.append([one["loss"] for one in of_kind(tmp_path / "job", "step")])
    texts = [one["text"] for one in of_kind(tmp_path / "job", "log")]
    assert "The tokens of dataset.jsonl are those of an earlier job" in texts
    assert losses[0] == losses[1] and Path(spec.dataset_path).with_name("tokens").is_dir()
