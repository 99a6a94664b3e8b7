"""The benchmarks, shrunk: they still do what they say, and every mark has its row. No number here means anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from benchmarks import head_memory, intake, live, queue_marks, tokenizing, train_cpu, train_gpu
from benchmarks.table import Row, is_met, report, row
from tests.conftest import REPOSITORY

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
KEYS = {"name", "value", "unit", "mark", "better"}

pytestmark = [
    # Other people's hints; ours are errors everywhere else.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def check(rows: list[Row], path: Path) -> dict[str, Row]:
    """Rows by name, after they went through the file."""
    report(rows, path)
    again: list[Row] = json.loads(path.read_text("utf-8"))
    for one in again:
        assert set(one) in (KEYS, KEYS | {"peer", "ratio"}) and one["better"] in ("higher", "lower"), one
    assert len({one["name"] for one in again}) == len(again)
    return {one["name"]: one for one in again}


def marks(rows: dict[str, Row]) -> list[float]:
    return sorted({one["mark"] for one in rows.values() if one["mark"] is not None})


def test_tokenizing(tmp_path: Path) -> None:
    write_tiny_tokenizer(tmp_path / "model")
    rows = tokenizing.measure(tmp_path / "model", tmp_path, num_records=20, rounds=1)
    assert marks(check(rows, tmp_path / "rows.json")) == [1.2e6, 1.5e6]


def test_head_memory_compares_equal_losses(tmp_path: Path) -> None:
    rows = check(head_memory.measure(shrink=True), tmp_path / "rows.json")
    assert marks(rows) == [0.125, 1.0]
    assert rows["fp32: loss of ours, off full logits by"]["value"] == pytest.approx(0, abs=1e-5)
    assert rows["fp32: gradient of ours, its norm off by"]["value"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_train_cpu_compares_equal_gradients(tmp_path: Path) -> None:
    rows = check(train_cpu.measure(tmp_path, shrink=True), tmp_path / "rows.json")
    off = {name: one["value"] or 0.0 for name, one in rows.items() if ": gradient of" in name}
    assert len(off) == 5
    assert off["6 tokens: gradient of ours in fp32, off the Trainer's by"] < 1e-4
    assert max(off.values()) < 0.15  # bf16 adapters


@pytest.mark.slow
def test_train_gpu(tmp_path: Path) -> None:
    rows = check(train_gpu.shrunk(tmp_path), tmp_path / "rows.json")
    assert rows["packed attention equals single examples"]["value"] == 1
    assert sum(name.endswith(": a step") for name in rows) == 8


def test_a_mark_is_held_against_the_ratio_where_there_is_one() -> None:
    assert is_met(row("a", 4.0, "s", "lower", mark=0.5, peer=10.0)) is True
    assert is_met(row("a", 4.0, "tokens/s", "higher", mark=5.0)) is False
    assert is_met(row("a", 4.0, "tokens/s", "higher")) is None


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_that_are_kept_are_of_that_shape(path: Path) -> None:
    rows = json.loads(path.read_text("utf-8"))
    assert rows and all(set(one) >= KEYS for one in rows)


# What a control center in processes of its own leaves open is theirs to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_queue(tmp_path: Path) -> None:
    rows = check(queue_marks.measure(tmp_path, queue_marks.SMALL), tmp_path / "rows.json")
    assert marks(rows) == [100]
    assert {"wake-up to claim, p50", "wake-up to claim, p99"} <= set(rows)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.timeout(400)
@pytest.mark.slow
def test_live(tmp_path: Path) -> None:
    rows = check(live.measure(tmp_path, live.SMALL), tmp_path / "rows.json")
    assert marks(rows) == [0, 1, 4, 8, 150, 300, 10_000]
    assert next(one["value"] for name, one in rows.items() if name.endswith("events lost")) == 0


def test_the_queues_benchmark_hides_no_module_of_python() -> None:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import queue; print(queue.Queue, queue.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "benchmarks" not in done.stdout, done.stderr


def test_intake(tmp_path: Path) -> None:
    rows = check(intake.measure(tmp_path, megabytes=1.0, rows=200), tmp_path / "rows.json")
    assert marks(rows) == [25, 100, 150, 300]
    assert {name for name in rows if "beside datasets" in name or "beside pandas" in name}
