"""Steps, their examples and their learning rates, as pure functions."""

from collections import Counter

import pytest
from torch import zeros
from torch.nn import Parameter
from torch.optim import SGD
from transformers import get_scheduler

from app.conversations.split import draws
from app.schemas import TrainingConfig
from worker.trainer.schedule import Plan, Share, every, learning_rate, make_plan


def test_each_epoch_trains_every_example_once() -> None:
    plan = Plan(num_examples=21, step_size=4, num_steps=12, seed=1)
    epochs = [[i for step in range(first, first + 6) for i in plan.members(step)] for first in (1, 7)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(21))
    assert epochs[0] != epochs[1]


def test_the_last_step_of_an_epoch_takes_what_is_left() -> None:
    plan = Plan(num_examples=21, step_size=4, num_steps=6, seed=1)
    assert [len(plan.members(step)) for step in range(1, 7)] == [4, 4, 4, 4, 4, 1]
    assert plan.epoch(6) == 1.0


def test_a_step_has_the_same_members_whatever_was_asked_before() -> None:
    walked, asked = Plan(50, 8, 99, seed=3), Plan(50, 8, 99, seed=3)
    members = [walked.members(step) for step in range(1, 31)]
    assert asked.members(30) == members[29]


def test_another_seed_gives_another_order() -> None:
    assert Plan(50, 8, 9, seed=1).members(1) != Plan(50, 8, 9, seed=2).members(1)


@pytest.mark.parametrize(
    ("epochs", "num_examples", "num_steps"), [(1, 17, 3), (2, 16, 4), (0.1, 240, 3), (1.5, 16, 3), (0.01, 8, 1)]
)
def test_epochs_give_steps(epochs: float, num_examples: int, num_steps: int) -> None:
    assert make_plan(TrainingConfig(epochs=epochs), num_examples).num_steps == num_steps


def test_max_steps_replaces_epochs_and_repeats_the_data() -> None:
    plan = make_plan(TrainingConfig(epochs=1, max_steps=50), 16)
    assert plan.num_steps == 50
    assert plan.epoch(50) == 25.0


def test_auto_checks_twenty_times_a_job() -> None:
    assert (every("auto", 1250), every("auto", 10), every(7, 1250)) == (63, 1, 7)


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_without_warm_up_the_rates_are_those_of_transformers(scheduler: str) -> None:
    optimizer = SGD([Parameter(zeros(1))], lr=0.5)
    theirs = get_scheduler(scheduler, optimizer, num_warmup_steps=0, num_training_steps=10)
    config = TrainingConfig(learning_rate=0.5, scheduler=scheduler, warmup_ratio=0)  # type: ignore[arg-type]
    rate = learning_rate(config, 10)
    for step in range(1, 11):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_warm_up_rises_from_above_zero_to_the_full_rate() -> None:
    rate = learning_rate(TrainingConfig(learning_rate=1.0, warmup_steps=3), 100)
    assert [rate(step) for step in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


def test_a_job_of_one_step_learns_something() -> None:
    assert learning_rate(TrainingConfig(learning_rate=1.0), 1)(1) == 0.5


def test_a_weight_is_how_often_an_epoch_draws_an_example() -> None:
    shares = (Share(0, 10, draws(10, 2)), Share(10, 30, draws(30, 0.5)), Share(40, 5, draws(5, 1)))
    plan = make_plan(TrainingConfig(batch_size=1, gradient_accumulation=8, epochs=2), 45, shares)
    drawn = [Counter(i for step in range(first, first + 5) for i in plan.members(step)) for first in (1, 6)]
    assert (plan.num_examples, plan.num_steps) == (40, 10)
    for one in drawn:
        assert [one[i] for i in range(10)] == [2] * 10 and [one[i] for i in range(40, 45)] == [1] * 5
    assert [drawn[0][i] + drawn[1][i] for i in range(10, 40)] == [1] * 30


def test_the_draws_of_a_step_do_not_hang_on_what_was_asked_before() -> None:
    shares = (Share(0, 7, 10), Share(7, 20, 13))
    walked, asked = (make_plan(TrainingConfig(gradient_accumulation=4), 27, shares) for _ in range(2))
    members = [walked.members(step) for step in range(1, 31)]
    assert asked.members(30) == members[29]
