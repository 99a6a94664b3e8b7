"""Which examples a step trains, and at what learning rate: pure functions of the step, so resuming replays nothing."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from app.schemas import TrainingConfig

# The original's cadence: twenty evaluations, checkpoints and samples a job.
CHECKS_PER_JOB = 20


class Share(NamedTuple):
    """The examples [first, first + num_examples) come from one dataset, and an epoch draws so many of them.

    They are drawn in seeded passes over all of them that go on from epoch to epoch: with half of them drawn, two epochs
    have each once; with twice as many, one epoch has each twice.
    """

    first: int
    num_examples: int
    num_draws: int

    def drawn(self, epoch: int, seed: int) -> list[int]:
        chosen: list[int] = []
        place = epoch * self.num_draws
        while len(chosen) < self.num_draws:
            turn, offset = divmod(place + len(chosen), self.num_examples)
            order = list(range(self.first, self.first + self.num_examples))
            random.Random(f"{seed}/{self.first}/{turn}").shuffle(order)
            chosen += order[offset : offset + self.num_draws - len(chosen)]
        return chosen


@dataclass
class Plan:
    """Steps are counted from 1. The last step of an epoch takes what is left, as a plain loop does.

    `shares` are those of a mixture; without them an epoch has each example once.
    """

    num_examples: int
    step_size: int
    num_steps: int
    seed: int
    shares: tuple[Share, ...] = ()
    _shuffled: dict[int, list[int]] = field(default_factory=dict, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self.step_size)

    def members(self, step: int) -> list[int]:
        """Indices of the examples of a step, in the seeded order of its epoch."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        return self._order(epoch)[place * self.step_size : (place + 1) * self.step_size]

    def epoch(self, step: int) -> float:
        """Epochs done after a step."""
        whole, rest = divmod(step, self.steps_per_epoch)
        return whole + min(rest * self.step_size / self.num_examples, 1.0)

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._shuffled:
            order = [i for share in self.shares for i in share.drawn(epoch, self.seed)]
            order = order or list(range(self.num_examples))
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._shuffled = {epoch: order}
        return self._shuffled[epoch]


def make_plan(config: TrainingConfig, num_examples: int, shares: tuple[Share, ...] = ()) -> Plan:
    """`num_examples` are those of an epoch where nothing is mixed."""
    drawn = sum(share.num_draws for share in shares) or num_examples
    return Plan(drawn, config.step_size, config.num_steps(drawn), config.seed, shares)


def every(setting: int | str, num_steps: int) -> int:
    """A resolved cadence in steps."""
    return max(1, math.ceil(num_steps / CHECKS_PER_JOB)) if isinstance(setting, str) else setting


def learning_rate(config: TrainingConfig, num_steps: int) -> Callable[[int], float]:
    """Step (from 1) -> learning rate.

    The warm-up's first step is already above zero: a job of one step must learn something.
    """
    warmup = math.ceil(config.warmup_ratio * num_steps) if config.warmup_steps is None else config.warmup_steps

    def rate(step: int) -> float:
        done = step - 1
        if done < warmup:
            return config.learning_rate * step / (warmup + 1)
        progress = (done - warmup) / max(1, num_steps - warmup)
        return config.learning_rate * _decay(config.scheduler, progress)

    return rate


def _decay(scheduler: str, progress: float) -> float:
    if scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if scheduler == "linear" else 1.0
