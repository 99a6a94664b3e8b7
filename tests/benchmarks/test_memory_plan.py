"""The dry-run, shrunk to three layers of the real width: it must go on counting what the trainer's code allocates."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import memory_plan
from benchmarks.dry_run import GEOMETRY_8B, Allocations, Case, peak_of_step

SHRUNK: dict[str, Any] = GEOMETRY_8B | {
    "text_config": GEOMETRY_8B["text_config"] | {"num_hidden_layers": 3},
    "vision_config": GEOMETRY_8B["vision_config"] | {"depth": 1, "deepstack_visual_indexes": [0]},
}


@pytest.mark.parametrize(
    "case", [Case((350,) * 8), Case((700,) * 4, free_layers=2), Case((2800,), use_qlora=False, dropout=0.0)]
)
def test_the_formula_gives_what_is_counted(case: Case) -> None:
    (row, worst) = memory_plan.measure(SHRUNK, (("shrunk", case, None),))
    assert row["value"] > 2 and abs(row["difference"]) == worst["value"] <= 5


def test_what_a_step_adds_grows_with_its_row() -> None:
    peaks = [peak_of_step(SHRUNK, Case((length,))) for length in (1000, 4000, 8000)]
    assert peaks[0] < peaks[1] < peaks[2]


def test_only_living_bytes_count() -> None:
    counted = Allocations()
    with counted:
        kept = torch.empty(1000)
        torch.empty(5000)
        kept.view(10, 100)
    assert (counted.now, counted.peak) == (4000, 24_000)


def test_its_rows_are_written_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_plan, "GEOMETRY_8B", SHRUNK)
    monkeypatch.setattr(memory_plan, "CASES", (("a short row", Case((64,)), 9.5),))
    assert memory_plan.main(["--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert all(row.keys() >= {"name", "value", "unit", "mark", "better"} for row in rows)
    assert "a short row" in capsys.readouterr().out


def test_the_committed_result_holds_its_marks() -> None:
    path = Path(memory_plan.__file__).parent / "results" / "memory_plan.json"
    marked = {row["name"]: row["value"] <= row["mark"] for row in json.loads(path.read_text()) if row["mark"]}
    assert set(marked.values()) == {True} and len(marked) == 4
