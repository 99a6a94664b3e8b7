"""Validation loss: the mean over all targets of the validation examples, prompts and padding never counted."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from worker.trainer.back_off import RowBudget
from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee
from worker.trainer.packing import longest_row, pack


@dataclass(frozen=True)
class EvalMetrics:
    loss: float
    num_targets: int


@torch.no_grad()
def evaluate(
    trainee: Trainee, examples: list[Example], vision: Vision, budget: RowBudget, poll: Callable[[], None]
) -> EvalMetrics:
    """Weighs every target alike. Draws no random number, so it may stand between any two steps."""
    was_training = trainee.peft.training

    def row_loss(members: list[int]) -> float:
        poll()
        row = pack([examples[i] for i in members], [1.0] * len(members), vision, trainee.device)
        return float(target_cross_entropy(trainee.hidden(row), trainee.head, row.labels, row.scale))

    trainee.peft.eval()
    try:
        losses = budget.run(examples, "the evaluation", row_loss, undo=lambda: None)
    finally:
        trainee.peft.train(was_training)
    num_targets = sum(one.num_targets for one in examples)
    return EvalMetrics(sum(losses) / num_targets, num_targets)


def answer_shares(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Of (answer, wanted): the share answered exactly, and of those that want JSON the share that is JSON."""
    if not pairs:
        return {}
    shares = {"exact_match": sum(answer.strip() == wanted.strip() for answer, wanted in pairs) / len(pairs)}
    of_json = [answer for answer, wanted in pairs if _is_json(wanted)]
    return shares | ({"json_valid": sum(map(_is_json, of_json)) / len(of_json)} if of_json else {})


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def rehearse_evaluation(
    trainee: Trainee, examples: list[Example], vision: Vision, budget: RowBudget, poll: Callable[[], None]
) -> None:
    """The longest row of the evaluations to come, so that memory that is too small shows at once."""
    tried = 0
    while tried != budget.tokens:
        tried = budget.tokens
        evaluate(trainee, longest_row([examples], tried), vision, budget, poll)
