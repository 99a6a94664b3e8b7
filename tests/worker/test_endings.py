"""How an attempt that does not go well is explained: what its worker tells of it at the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fake_server import FakeServer, sha256
from tests.worker.test_supervise import carry_out, in_background
from worker.supervise import Bench

MakeBench = Callable[..., Bench]


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "jobs" / "7" / "attempt-1"


def test_a_killed_trainer_is_explained(server: FakeServer, bench: MakeBench) -> None:
    ending = carry_out(server, bench(killed_at=3))
    assert (ending["outcome"], ending["exit"], ending["step"]) == ("crashed", {"code": 0, "signal": 9}, 3)
    assert ending["error"]["code"] == "trainer_sigkill" and "memory" in ending["error"]["message"]
    assert ending["log"] == ["counting"]


def test_the_kernels_word_explains_a_kill(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,9,-;Out of memory: Killed process 1 (an earlier one)\n")
    thread = in_background(server, bench(steps=60, killed_at=50))
    with log.open("a") as stream:
        stream.write("4,2,10,-;Out of memory: Killed process 2 (python3)\n")
    thread.join()
    assert (server.ends[0]["outcome"], server.ends[0]["error"]["code"]) == ("crashed", "oom_killed")


@pytest.mark.parametrize(
    ("code", "outcome"), [("driver_gone", "crashed"), ("checkpoint_broken", "crashed"), ("no_examples", "failed")]
)
def test_only_faults_of_the_infrastructure_are_tried_again(
    server: FakeServer, bench: MakeBench, code: str, outcome: str
) -> None:
    ending = carry_out(server, bench(fails_with={"code": code, "message": "It failed.", "advice": "Look."}))
    assert (ending["outcome"], ending["error"]["code"], ending["exit"]["code"]) == (outcome, code, 1)


def test_a_crash_comes_with_the_last_lines_of_its_log(server: FakeServer, bench: MakeBench) -> None:
    ending = carry_out(server, bench(crashed_at=2))
    assert "RuntimeError: the data is not what it was" in ending["error"]["message"]
    assert ending["log"][0] == "counting" and "Traceback" in ending["log"][1]


def test_a_model_that_is_not_there_fails_before_any_trainer(
    server: FakeServer, bench: MakeBench, job_dir: Path
) -> None:
    ending = carry_out(server, bench(), model="Qwen/Qwen3-VL-8B-Instruct")
    assert (ending["outcome"], ending["error"]["code"], ending["exit"]) == ("failed", "hub_off", None)
    assert not (job_dir / "trainer.log").exists()


def test_a_dataset_with_other_bytes_is_not_trained_on(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    server.stored["dataset"] = b"something else"
    ending = carry_out(server, bench())
    assert ending["error"]["code"] == "file_damaged"
    assert list((tmp_path / "worker" / "datasets").iterdir()) == []


def resume_point(content: bytes) -> dict[str, Any]:
    path = "checkpoints/step-00000003"
    file = {"path": f"{path}/adapter", "size": len(content), "sha256": sha256(content)}
    return {"attempt": 1, "step": 3, "path": path, "files": [file]}


def test_a_checkpoint_is_fetched_and_resumed_from(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    server.stored["files/checkpoints/step-00000003/adapter"] = b"weights 3"
    ending = carry_out(server, bench(), attempt=2, resume=resume_point(b"weights 3"))
    spec = json.loads((tmp_path / "worker" / "jobs" / "7" / "attempt-2" / "job.json").read_text())
    assert (ending["outcome"], spec["resume_step"]) == ("succeeded", 3)
    assert spec["resume_path"].endswith("attempt-2/resume/checkpoints/step-00000003")
    assert [event["step"] for event in server.events["2"] if event["kind"] == "step"] == [4, 5]


def test_a_damaged_checkpoint_is_not_resumed_from(server: FakeServer, bench: MakeBench) -> None:
    server.stored["files/checkpoints/step-00000003/adapter"] = b"weights 4"
    ending = carry_out(server, bench(), attempt=2, resume=resume_point(b"weights 3"))
    assert (ending["outcome"], ending["error"]["code"]) == ("crashed", "checkpoint_broken")
    assert "step 3" in ending["error"]["message"]


def test_a_checkpoint_that_is_gone_counts_as_damaged(server: FakeServer, bench: MakeBench) -> None:
    ending = carry_out(server, bench(), attempt=2, resume=resume_point(b"weights 3"))
    assert (ending["outcome"], ending["error"]["code"]) == ("crashed", "checkpoint_broken")
