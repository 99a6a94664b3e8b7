"""Validation loss: every target once, nothing else."""

import pytest
import torch

from tests.tiny import make_examples
from worker.trainer.back_off import RowBudget
from worker.trainer.evaluate import answer_shares, evaluate
from worker.trainer.images import Vision
from worker.trainer.model import Trainee

EXAMPLES = make_examples((30, 2), (9, 8), (17, 5))


@torch.no_grad()
def by_full_logits(trainee: Trainee) -> float:
    """The plain sum over targets, one example at a time, by the model's own forward."""
    total = 0.0
    for one in EXAMPLES:
        logits = trainee.base(input_ids=one.ids.long()[None]).logits[0].double()
        log_p = logits.log_softmax(-1)[:-1].gather(1, one.ids.long()[1:, None])[:, 0]
        total -= float(log_p[one.targets[1:]].sum())
    return total / sum(one.num_targets for one in EXAMPLES)


@pytest.mark.parametrize("row_tokens", [1, 40, 1000])
def test_it_is_the_mean_over_all_targets_however_rows_are_filled(
    row_tokens: int, exact: Trainee, vision: Vision
) -> None:
    found = evaluate(exact, EXAMPLES, vision, RowBudget(row_tokens, print), lambda: None)
    assert found.num_targets == 2 + 8 + 5
    assert found.loss == pytest.approx(by_full_logits(exact), rel=1e-12)


def test_it_changes_neither_the_mode_nor_the_generators(exact: Trainee, vision: Vision) -> None:
    exact.peft.train()
    before = torch.get_rng_state()
    evaluate(exact, EXAMPLES, vision, RowBudget(40, print), lambda: None)
    assert exact.peft.training
    assert torch.equal(torch.get_rng_state(), before)


def test_answers_are_compared_with_what_was_wanted() -> None:
    pairs = [('{"n": 3}', '{"n": 3}'), ('{"n": ', '{"n": 4}'), ("about four", "4"), ("Hello.", "Hello. ")]
    assert answer_shares(pairs) == {"exact_match": 0.5, "json_valid": 1 / 3}
    assert answer_shares(pairs[3:]) == {"exact_match": 1.0} and answer_shares([]) == {}
