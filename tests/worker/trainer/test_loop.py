"""Optimizer steps: against Hugging Face's Trainer, and when something goes wrong in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from app.schemas import TrainingConfig
from tests.tiny import make_examples, make_trainee
from worker.trainer.back_off import RowBudget
from worker.trainer.commands import ASKS
from worker.trainer.faults import Interrupted, JobFailed
from worker.trainer.images import Example, Vision
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.model import Trainee

EXAMPLES = make_examples(*[(9 + 5 * i % 23, 2 + i % 5) for i in range(20)])
STEP = 4


def nothing(*_: Any) -> None:
    pass


def make_stepper(trainee: Trainee, vision: Vision, **settings: Any) -> Stepper:
    budget = RowBudget(settings.pop("row_tokens", 1024), nothing)
    poll: Callable[[], None] = settings.pop("poll", nothing)
    config = TrainingConfig(**{"learning_rate": 1e-2, "gradient_accumulation": STEP, **settings})
    optimizer = make_optimizer(trainee, config)
    return Stepper(trainee, optimizer, config, vision, lambda step: 1e-2, budget, poll)


def members(step: int) -> list[Example]:
    return EXAMPLES[(step - 1) * STEP % 20 :][:STEP]


def weights(trainee: Trainee) -> Tensor:
    return torch.cat([one.detach().flatten() for one in trainee.parameters.values()])


class Recorder(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.logs.append(logs)


class InOrder(Trainer):  # type: ignore[misc]
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset)


def collate(examples: list[Example]) -> dict[str, Tensor]:
    (one,) = examples
    ids = one.ids.long()[None]
    return {"input_ids": ids, "labels": torch.where(one.targets[None], ids, -100)}


def train_with_hugging_face(trainee: Trainee, folder: Path) -> list[dict[str, float]]:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=STEP,
        max_steps=5,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    recorder = Recorder()
    InOrder(
        model=trainee.peft, args=arguments, train_dataset=EXAMPLES, data_collator=collate, callbacks=[recorder]
    ).train()
    return recorder.logs


def test_five_steps_are_those_of_hugging_faces_trainer(model_dir: Path, vision: Vision, tmp_path: Path) -> None:
    theirs = make_trainee(model_dir)
    logs = train_with_hugging_face(theirs, tmp_path)
    ours = make_trainee(model_dir)
    steps = list(make_stepper(ours, vision, loss_mean="examples").steps(members, 1, 5))
    assert [one.loss for one in steps] == pytest.approx([one["loss"] for one in logs], abs=2e-4)
    assert [one.grad_norm for one in steps] == pytest.approx([one["grad_norm"] for one in logs], rel=1e-4)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-3, atol=1e-4)


def test_the_loss_falls(model_dir: Path, vision: Vision) -> None:
    trainee = make_trainee(model_dir)
    steps = list(make_stepper(trainee, vision).steps(lambda step: EXAMPLES[:STEP], 1, 15))
    assert steps[-1].loss < 0.5 * steps[0].loss


def test_a_step_reports_what_it_trained(model_dir: Path, vision: Vision) -> None:
    (first,) = make_stepper(make_trainee(model_dir), vision).steps(members, 1, 1)
    assert (first.step, first.learning_rate) == (1, 1e-2)
    assert first.num_tokens == sum(one.num_tokens for one in members(1))
    assert first.num_targets == sum(one.num_targets for one in members(1))


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(model_dir: Path, vision: Vision) -> None:
    trainee = make_trainee(model_dir)
    trainee.base.lm_head.weight.data[0, 0] = float("nan")
    before = weights(trainee)
    with pytest.raises(JobFailed, match="loss of step 3 is not a finite number") as failed:
        list(make_stepper(trainee, vision).steps(members, 3, 5))
    assert failed.value.code == "non_finite_loss"
    assert "9, 10, 11, 12" in failed.value.advice
    assert torch.equal(weights(trainee), before)


def poll_that_stops(after: int) -> Callable[[], None]:
    left = iter(range(after))

    def poll() -> None:
        if next(left, None) is None:
            raise Interrupted(ASKS["cancel"])

    return poll


def test_an_interrupted_step_has_not_happened(model_dir: Path, vision: Vision) -> None:
    trainee = make_trainee(model_dir, lora_dropout=0.3)
    stepper = make_stepper(trainee, vision, row_tokens=32, poll=poll_that_stops(after=2))
    before, generators = weights(trainee), torch.get_rng_state()
    with pytest.raises(Interrupted):
        list(stepper.steps(members, 1, 1))
    assert torch.equal(weights(trainee), before)
    assert torch.equal(torch.get_rng_state(), generators)
    assert all(one.grad is None for one in trainee.parameters.values())
