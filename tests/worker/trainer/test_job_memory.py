"""Whole jobs on machines with little memory: they end with what they would have learned anyway."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import conversation, make_job, of_kind, run_job
from worker.trainer import session
from worker.trainer.model import Trainee
from worker.trainer.sample import Sampler

RECORDS = [conversation(i) for i in range(40)]
SETTINGS: dict[str, Any] = {"max_steps": 8, "lora_dropout": 0.2, "save_steps": 4, "keep_best": False}


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Rows of more than 100 tokens run out of memory; four examples are more."""
    hidden = Trainee.hidden

    def limited(self: Trainee, row: Any) -> Tensor:
        if row.num_tokens > 100:
            raise torch.OutOfMemoryError("simulated")
        return hidden(self, row)

    monkeypatch.setattr(Trainee, "hidden", limited)
    return monkeypatch


def rehearse_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "says_when_memory_ends", lambda device: True)


def adapter(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def warnings(folder: Path) -> list[str]:
    return [one["text"] for one in of_kind(folder, "log") if one["level"] == "warning"]


def test_a_resumed_job_goes_on_with_the_rows_that_fitted(
    model_dir: Path, tmp_path: Path, small_memory: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path / "first", model_dir, RECORDS, **SETTINGS)
    run_job(tmp_path / "first")
    assert "Out of memory in step 1: " in warnings(tmp_path / "first")[0]
    small_memory.undo()
    path = tmp_path / "first" / "checkpoints" / "step-00000004"
    assert json.loads((path / "checkpoint.json").read_text("utf-8"))["progress"]["row_tokens"] < 100
    make_job(tmp_path / "second", model_dir, RECORDS, **SETTINGS, resume_path=str(path), resume_step=4)
    run_job(tmp_path / "second")
    assert warnings(tmp_path / "second") == []
    assert adapter(tmp_path / "second") == adapter(tmp_path / "first")


def test_a_rehearsed_job_ends_with_the_same_bits(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plain", "rehearsed"):
        make_job(tmp_path / name, model_dir, RECORDS, **SETTINGS)
    run_job(tmp_path / "plain")
    rehearse_always(monkeypatch)
    run_job(tmp_path / "rehearsed")
    assert adapter(tmp_path / "rehearsed") == adapter(tmp_path / "plain")
    assert any("The longest rows fit" in one["text"] for one in of_kind(tmp_path / "rehearsed", "log"))


def test_memory_that_is_too_small_shows_before_the_first_step(
    model_dir: Path, tmp_path: Path, small_memory: pytest.MonkeyPatch
) -> None:
    rehearse_always(small_memory)
    make_job(tmp_path, model_dir, RECORDS, **SETTINGS)
    assert run_job(tmp_path)["outcome"] == "succeeded"
    said = warnings(tmp_path)
    assert said and all(one.startswith("Out of memory in the longest row: rows hold ") for one in said)


def test_samples_that_do_not_fit_cost_no_job(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Sampler) -> None:
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(Sampler, "samples", fail)
    make_job(tmp_path, model_dir, RECORDS, **{**SETTINGS, "max_steps": 1, "sample_prompts": 1})
    assert run_job(tmp_path)["outcome"] == "succeeded"
    assert "Out of memory at the samples" in warnings(tmp_path)[0]
