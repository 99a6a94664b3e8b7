"""Validation loss: the mean over all targets of the validation examples, prompts and padding never counted."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee
from worker.trainer.packing import fill_rows, pack


@dataclass(frozen=True)
class EvalMetrics:
    loss: float
    num_targets: int


@torch.no_grad()
def evaluate(
    trainee: Trainee, examples: list[Example], vision: Vision, row_tokens: int, poll: Callable[[], None]
) -> EvalMetrics:
    """Weighs every target alike. Draws no random number, so it may stand between any two steps."""
    was_training = trainee.peft.training
    trainee.peft.eval()
    try:
        total = 0.0
        for members in fill_rows([one.num_tokens for one in examples], row_tokens):
            poll()
            row = pack([examples[i] for i in members], [1.0] * len(members), vision, trainee.device)
            total += float(target_cross_entropy(trainee.hidden(row), trainee.head, row.labels, row.scale))
    finally:
        trainee.peft.train(was_training)
    num_targets = sum(one.num_targets for one in examples)
    return EvalMetrics(total / num_targets, num_targets)
