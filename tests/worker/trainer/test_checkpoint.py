"""A checkpoint resumes its own job to the same bits, and no other job."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor

from app.schemas import TrainingConfig
from tests.tiny import make_examples, make_trainee
from worker.trainer.back_off import RowBudget
from worker.trainer.checkpoint import (
    Progress,
    keep_only,
    load_adapter,
    read_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from worker.trainer.faults import JobFailed
from worker.trainer.images import Vision
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.model import Trainee

EXAMPLES = make_examples(*[(9 + 5 * i % 23, 2 + i % 5) for i in range(20)])
IDENTITY = {"dataset_sha256": "a" * 64, "config": {"lora_r": 8, "system_prompt": "Be kind."}}
Optimizer = Callable[[Trainee], torch.optim.Optimizer]


def adam(trainee: Trainee) -> torch.optim.Optimizer:
    return make_optimizer(trainee, TrainingConfig(learning_rate=1e-2))


def adam_8bit(trainee: Trainee) -> torch.optim.Optimizer:
    parameters = list(trainee.parameters.values())
    made: torch.optim.Optimizer = bnb.optim.AdamW8bit(parameters, lr=1e-2, min_8bit_size=16)
    return made


def train(trainee: Trainee, optimizer: torch.optim.Optimizer, vision: Vision, first: int, last: int) -> None:
    config = TrainingConfig(gradient_accumulation=4)
    stepper = Stepper(trainee, optimizer, config, vision, lambda step: 1e-2, RowBudget(64, print), lambda: None)
    list(stepper.steps(lambda step: EXAMPLES[(step - 1) * 4 % 20 :][:4], first, last))


def weights(trainee: Trainee) -> Tensor:
    return torch.cat([one.detach().flatten() for one in trainee.parameters.values()])


@pytest.fixture
def saved(model_dir: Path, tmp_path: Path) -> Path:
    trainee = make_trainee(model_dir)
    return save_checkpoint(tmp_path, trainee, adam(trainee), Progress(step=3), IDENTITY)


@pytest.mark.parametrize(("use_qlora", "optimizer"), [(False, adam), (True, adam), (True, adam_8bit)])
def test_resumed_weights_are_the_same_bits(
    use_qlora: bool, optimizer: Optimizer, model_dir: Path, vision: Vision, tmp_path: Path
) -> None:
    straight = make_trainee(model_dir, use_qlora=use_qlora, lora_dropout=0.2)
    straight_optimizer = optimizer(straight)
    train(straight, straight_optimizer, vision, 1, 7)
    path = save_checkpoint(tmp_path, straight, straight_optimizer, Progress(step=7), IDENTITY)
    train(straight, straight_optimizer, vision, 8, 12)

    resumed = make_trainee(model_dir, use_qlora=use_qlora, lora_dropout=0.2)
    resumed_optimizer = optimizer(resumed)
    assert read_checkpoint(path, IDENTITY).step == 7
    restore_checkpoint(path, resumed, resumed_optimizer)
    train(resumed, resumed_optimizer, vision, 8, 12)
    assert torch.equal(weights(resumed), weights(straight))


def test_without_its_generators_dropout_would_differ(model_dir: Path, vision: Vision) -> None:
    first, second = (make_trainee(model_dir, lora_dropout=0.2) for _ in range(2))
    for seed, trainee in enumerate((first, second)):
        torch.manual_seed(seed)
        train(trainee, adam(trainee), vision, 1, 2)
    assert not torch.equal(weights(first), weights(second))


def test_progress_comes_back_whole(model_dir: Path, tmp_path: Path) -> None:
    trainee = make_trainee(model_dir)
    progress = Progress(
        step=9, loss=0.5, eval_step=8, eval_loss=0.25, best_step=4, best_loss=0.125, evals_without_gain=2
    )
    path = save_checkpoint(tmp_path, trainee, adam(trainee), progress, IDENTITY)
    assert read_checkpoint(path, IDENTITY) == progress


def test_best_weights_travel_along(model_dir: Path, tmp_path: Path) -> None:
    trainee = make_trainee(model_dir)
    best = {"layer": torch.arange(4.0)}
    path = save_checkpoint(tmp_path, trainee, adam(trainee), Progress(step=9), IDENTITY, best)
    found = restore_checkpoint(path, trainee, adam(trainee))
    assert found is not None and torch.equal(found["layer"], best["layer"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dataset_sha256": "b" * 64}, "dataset_sha256 is 'aaa"),
        ({"config": {"lora_r": 128, "system_prompt": "Be kind."}}, "config.lora_r is 8 in the checkpoint and 128 here"),
        ({"config": {"lora_r": 8, "system_prompt": "Hi"}}, "config.system_prompt is 'Be kind.' in the checkpoint"),
        ({"base_model": "x"}, "base_model is missing in the checkpoint and 'x' here"),
    ],
)
def test_a_checkpoint_of_another_job_is_refused_by_the_difference(
    change: dict[str, Any], named: str, saved: Path
) -> None:
    with pytest.raises(JobFailed, match=named) as refused:
        read_checkpoint(saved, {**IDENTITY, **change})
    assert refused.value.code == "checkpoint_mismatch"


@pytest.mark.parametrize("name", ["adapter.safetensors", "state.pt"])
def test_a_changed_file_is_refused(name: str, saved: Path) -> None:
    data = bytearray((saved / name).read_bytes())
    data[-1] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(JobFailed, match=f"{name} is not what was saved") as refused:
        read_checkpoint(saved, IDENTITY)
    assert refused.value.code == "checkpoint_broken"


@pytest.mark.parametrize("name", ["adapter.safetensors", "state.pt", "checkpoint.json"])
def test_a_missing_file_is_refused(name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(JobFailed, match=name) as refused:
        read_checkpoint(saved, IDENTITY)
    assert refused.value.code == "checkpoint_broken"


def test_other_layers_than_the_adapters_are_refused(model_dir: Path) -> None:
    with pytest.raises(JobFailed, match="other layers"):
        load_adapter(make_trainee(model_dir), {"elsewhere": torch.zeros(1)})


def test_a_write_that_breaks_off_leaves_no_checkpoint(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    trainee = make_trainee(model_dir)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, trainee, adam(trainee), Progress(step=3), IDENTITY)
    monkeypatch.undo()
    assert list(tmp_path.glob("step-*")) == []
    assert save_checkpoint(tmp_path, trainee, adam(trainee), Progress(step=3), IDENTITY).name == "step-00000003"
    assert [one.name for one in tmp_path.iterdir()] == ["step-00000003"]


def test_the_newest_and_the_best_are_kept(saved: Path, tmp_path: Path) -> None:
    for step in (6, 9, 12):
        shutil.copytree(saved, tmp_path / f"step-{step:08d}")
    keep_only(tmp_path, newest=2, best_step=3)
    assert sorted(int(one.name[5:]) for one in tmp_path.iterdir()) == [3, 9, 12]
    keep_only(tmp_path, newest=1, best_step=None)
    assert [int(one.name[5:]) for one in tmp_path.iterdir()] == [12]


def test_hashes_of_the_files_stand_in_the_description(saved: Path) -> None:
    description = json.loads((saved / "checkpoint.json").read_text("utf-8"))
    assert sorted(description["files"]) == ["adapter.safetensors", "state.pt"]
    assert description["identity"] == IDENTITY
