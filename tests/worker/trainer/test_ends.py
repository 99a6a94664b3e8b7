"""How a job ends when somebody stops it, and that it goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import conversation, make_job, of_kind, run_job
from worker.trainer.events import EventLog

RECORDS = [conversation(i) for i in range(40)]
SETTINGS: dict[str, Any] = {"max_steps": 8, "lora_dropout": 0.2, "eval_steps": 3, "save_steps": 100, "keep_best": False}


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Path], None]:
    """Makes a file appear right after a step was reported."""

    def arrange(step: int, flag: Path) -> None:
        emit = EventLog.emit

        def emit_and_touch(self: EventLog, kind: str, **fields: Any) -> None:
            emit(self, kind, **fields)
            if kind == "step" and fields["step"] == step:
                flag.touch()

        monkeypatch.setattr(EventLog, "emit", emit_and_touch)

    return arrange


def stop_at(
    at_step: Callable[[int, Path], None], folder: Path, model_dir: Path, step: int, command: str
) -> dict[str, Any]:
    make_job(folder, model_dir, RECORDS, **SETTINGS)
    at_step(step, folder / "commands" / command)
    return run_job(folder)


@pytest.mark.parametrize(
    ("command", "outcome"), [("cancel", "cancelled"), ("pause", "paused"), ("release", "released")]
)
def test_a_stopped_job_keeps_the_state_of_its_last_whole_step(
    command: str, outcome: str, model_dir: Path, tmp_path: Path, at_step: Any
) -> None:
    ended = stop_at(at_step, tmp_path, model_dir, 4, command)
    assert (ended["outcome"], ended["step"], ended["adapter"]) == (outcome, 4, None)
    assert [one["step"] for one in of_kind(tmp_path, "checkpoint")] == [4]


def test_stop_ends_without_saving(model_dir: Path, tmp_path: Path, at_step: Any) -> None:
    ended = stop_at(at_step, tmp_path, model_dir, 4, "stop")
    assert (ended["outcome"], ended["step"]) == ("cancelled", 4)
    assert of_kind(tmp_path, "checkpoint") == []


def test_save_makes_a_checkpoint_and_goes_on(model_dir: Path, tmp_path: Path, at_step: Any) -> None:
    assert stop_at(at_step, tmp_path, model_dir, 4, "save")["outcome"] == "succeeded"
    assert [one["step"] for one in of_kind(tmp_path, "checkpoint")] == [4, 8]
    assert not (tmp_path / "commands" / "save").exists()


def test_a_stop_before_the_first_step_leaves_nothing(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, **SETTINGS)
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "cancel").touch()
    ended = run_job(tmp_path)
    assert (ended["outcome"], ended["step"]) == ("cancelled", 0)
    assert not (tmp_path / "checkpoints").exists()


# 3 is a step with an evaluation: the stop comes before it, so the resumed attempt owes it.
@pytest.mark.parametrize("step", [3, 4])
def test_a_resumed_job_ends_with_the_same_bits(
    step: int, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_step: Any
) -> None:
    make_job(tmp_path / "straight", model_dir, RECORDS, **SETTINGS)
    run_job(tmp_path / "straight")
    stop_at(at_step, tmp_path / "first", model_dir, step, "pause")
    monkeypatch.undo()
    path = tmp_path / "first" / "checkpoints" / f"step-{step:08d}"
    make_job(tmp_path / "second", model_dir, RECORDS, **SETTINGS, resume_path=str(path), resume_step=step)
    assert run_job(tmp_path / "second")["step"] == 8

    straight, second = (tmp_path / one / "adapter" / "adapter_model.safetensors" for one in ("straight", "second"))
    assert straight.read_bytes() == second.read_bytes()
    assert of_kind(tmp_path / "second", "state")[0]["resume_step"] == step
    steps = [one["step"] for name in ("first", "second") for one in of_kind(tmp_path / name, "step")]
    assert steps == list(range(1, 9))
    evals = [one["loss"] for name in ("first", "second") for one in of_kind(tmp_path / name, "eval")]
    assert evals == [one["loss"] for one in of_kind(tmp_path / "straight", "eval")]


def test_a_checkpoint_of_another_dataset_is_refused(model_dir: Path, tmp_path: Path, at_step: Any) -> None:
    stop_at(at_step, tmp_path / "first", model_dir, 4, "pause")
    path = str(tmp_path / "first" / "checkpoints" / "step-00000004")
    make_job(tmp_path / "second", model_dir, RECORDS[:-1], **SETTINGS, resume_path=path, resume_step=4)
    ended = run_job(tmp_path / "second")
    assert (ended["outcome"], ended["error"]["code"]) == ("failed", "checkpoint_mismatch")
    assert "dataset_sha256" in ended["error"]["message"]
    assert of_kind(tmp_path / "second", "step") == []


def wait_for(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not found():
        assert process.poll() is None
        time.sleep(0.05)


def test_sigterm_releases_the_job(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, **{**SETTINGS, "max_steps": 100_000})
    command = [sys.executable, "-m", "worker.trainer", str(tmp_path)]
    with (tmp_path / "trainer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for(lambda: (tmp_path / "events.jsonl").exists() and bool(of_kind(tmp_path, "step")), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    ended = json.loads((tmp_path / "outcome.json").read_text("utf-8"))
    assert ended["outcome"] == "released"
    assert of_kind(tmp_path, "checkpoint")[-1]["step"] == ended["step"] > 0


def test_a_job_killed_after_its_early_stop_was_decided_takes_no_further_step(model_dir: Path, tmp_path: Path) -> None:
    early = {**SETTINGS, "max_steps": 20, "eval_steps": 1, "early_stopping_evals": 1, "learning_rate": 1.0}
    make_job(tmp_path / "first", model_dir, RECORDS, **early)
    ended = run_job(tmp_path / "first")
    last = of_kind(tmp_path / "first", "step")[-1]["step"]
    assert ended["outcome"] == "succeeded" and last < 20
    path = tmp_path / "first" / "checkpoints" / f"step-{last:08d}"
    make_job(tmp_path / "second", model_dir, RECORDS, **early, resume_path=str(path), resume_step=last)
    again = run_job(tmp_path / "second")
    assert (again["outcome"], again["step"]) == ("succeeded", ended["step"])
    assert of_kind(tmp_path / "second", "step") == []
