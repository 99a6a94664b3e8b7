"""A checkpoint or samples asked for in the midst of a step: made between two rows, and no result changed by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import conversation, make_job, of_kind, run_job
from worker.trainer import evaluate, loop

RECORDS = [conversation(i) for i in range(24)]
# A row holds one example or two, so that a step has several rows.
SETTINGS: dict[str, Any] = {"max_steps": 4, "lora_dropout": 0.2, "save_steps": 100, "keep_best": False}
SETTINGS |= {"max_length": 64, "row_tokens": 64, "validation_share": 0, "sample_prompts": 2, "sample_steps": 100}


@pytest.fixture
def at_row(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Path], list[int]]:
    """Makes a file appear while so manieth row is computed; the list grows by each row."""

    def arrange(row: int, flag: Path) -> list[int]:
        pack, rows = loop.pack, []

        def pack_and_touch(*given: Any) -> Any:
            rows.append(1)
            if len(rows) == row:
                flag.touch()
            return pack(*given)

        monkeypatch.setattr(loop, "pack", pack_and_touch)
        return rows

    return arrange


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_job(folder, model_dir, RECORDS, **SETTINGS)
    assert run_job(folder)["outcome"] == "succeeded"
    return weights(folder)


def test_a_checkpoint_amid_a_step_is_that_of_the_step_before(
    model_dir: Path, tmp_path: Path, undisturbed: bytes, at_row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path / "first", model_dir, RECORDS, **SETTINGS)
    rows = at_row(6, tmp_path / "first" / "commands" / "save")
    run_job(tmp_path / "first")
    saved = of_kind(tmp_path / "first", "checkpoint")[0]["step"]
    assert 0 < saved < 4 and len(rows) > 8 and weights(tmp_path / "first") == undisturbed
    monkeypatch.undo()
    path = tmp_path / "first" / "checkpoints" / f"step-{saved:08d}"
    make_job(tmp_path / "second", model_dir, RECORDS, **SETTINGS, resume_path=str(path), resume_step=saved)
    run_job(tmp_path / "second")
    assert weights(tmp_path / "second") == undisturbed


def test_samples_amid_a_step_come_at_once_and_change_nothing(
    model_dir: Path, tmp_path: Path, undisturbed: bytes, at_row: Any
) -> None:
    make_job(tmp_path, model_dir, RECORDS, **SETTINGS)
    at_row(1, tmp_path / "commands" / "sample")
    run_job(tmp_path)
    assert [(one["step"], one["prompt_id"]) for one in of_kind(tmp_path, "sample")] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    assert weights(tmp_path) == undisturbed


def test_a_save_before_the_first_step_waits_for_it(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, **SETTINGS)
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "save").touch()
    run_job(tmp_path)
    assert [one["step"] for one in of_kind(tmp_path, "checkpoint")] == [1, 4]


def test_a_checkpoint_and_samples_amid_an_evaluation_change_nothing_of_it(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {"validation_share": 0.3, "eval_steps": 2, "keep_best": True}
    for name in ("plain", "asked"):
        make_job(tmp_path / name, model_dir, RECORDS, **settings)
    assert run_job(tmp_path / "plain")["outcome"] == "succeeded"
    pack, commands, rows = evaluate.pack, tmp_path / "asked" / "commands", []

    def pack_and_touch(*given: Any) -> Any:
        rows.append(1)
        if len(rows) == 2:
            (commands / "save").touch()
            (commands / "sample").touch()
        return pack(*given)

    monkeypatch.setattr(evaluate, "pack", pack_and_touch)
    assert run_job(tmp_path / "asked")["outcome"] == "succeeded"
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    assert len(rows) > 5 and weights(asked) == weights(plain)
    assert [one["loss"] for one in of_kind(asked, "eval")] == [one["loss"] for one in of_kind(plain, "eval")]
    assert [(one["step"], one["best"]) for one in of_kind(plain, "checkpoint")] == [(2, True), (4, True)]
    assert [(one["step"], one["best"]) for one in of_kind(asked, "checkpoint")] == [(2, False), (2, True), (4, True)]
    kinds = [json.loads(line)["kind"] for line in (asked / "events.jsonl").read_text().splitlines()]
    assert kinds.index("checkpoint") < kinds.index("eval") and kinds.index("sample") < kinds.index("eval")
