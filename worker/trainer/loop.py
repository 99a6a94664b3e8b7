"""One optimizer step after the other. Knows no job: examples come in, metrics go out, the caller does the rest."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bitsandbytes as bnb
import torch
from torch.nn.utils import clip_grad_norm_

from app.schemas import TrainingConfig
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee
from worker.trainer.packing import fill_rows, pack, target_scales
from worker.trainer.randomness import restore_torch, torch_state


@dataclass(frozen=True)
class StepMetrics:
    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    num_targets: int
    step_s: float


@dataclass
class Stepper:
    """Takes optimizer steps. `poll` is called between rows and may raise; then the step has not happened."""

    trainee: Trainee
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    vision: Vision
    rate: Callable[[int], float]
    row_tokens: int
    poll: Callable[[], None]
    on_back_off: Callable[[int, int], None]

    def steps(self, members: Callable[[int], list[Example]], first: int, last: int) -> Iterator[StepMetrics]:
        """Yields after each step, with the new weights in place; between yields the caller may save or evaluate."""
        self.trainee.peft.train()
        for step in range(first, last + 1):
            started = time.perf_counter()
            examples = members(step)
            loss = self._gradients(step, examples)
            norm = float(clip_grad_norm_(self.trainee.parameters.values(), self.config.max_grad_norm))
            stop_unless_finite(step, loss, norm, examples)  # before the weights move
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield StepMetrics(
                step=step,
                loss=loss,
                learning_rate=self.rate(step),
                grad_norm=norm,
                num_tokens=sum(one.num_tokens for one in examples),
                num_targets=sum(one.num_targets for one in examples),
                step_s=time.perf_counter() - started,
            )

    def _gradients(self, step: int, examples: list[Example]) -> float:
        """The step's loss, its gradients left in the parameters; with half the row budget where memory ran out."""
        before = torch_state()
        while True:
            try:
                return self._forward_backward(examples)
            except torch.OutOfMemoryError:
                pass
            except BaseException:
                self._undo(before)
                raise
            # Outside the handler: the traceback holds the tensors of the failed row.
            self._undo(before)
            if self._halve(examples):
                raise too_large(examples)
            self.on_back_off(step, self.row_tokens)

    def _forward_backward(self, examples: list[Example]) -> float:
        scales = target_scales(examples, self.config.loss_mean)
        total = torch.zeros((), dtype=torch.float64, device=self.trainee.device)
        for members in fill_rows([one.num_tokens for one in examples], self.row_tokens):
            self.poll()
            row = pack([examples[i] for i in members], [scales[i] for i in members], self.vision, self.trainee.device)
            loss = target_cross_entropy(self.trainee.hidden(row), self.trainee.head, row.labels, row.scale)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return float(total)

    def _undo(self, generators: list[torch.Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        restore_torch(generators)

    def _halve(self, examples: list[Example]) -> bool:
        """Halve the row budget; answers whether every example already had a row of its own."""
        lengths = [one.num_tokens for one in examples]
        alone = len(fill_rows(lengths, self.row_tokens)) == len(examples)
        self.row_tokens = max(1, min(self.row_tokens, sum(lengths)) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return alone


def make_optimizer(trainee: Trainee, config: TrainingConfig) -> torch.optim.Optimizer:
    """8-bit paged Adam on CUDA, torch's own AdamW elsewhere."""
    parameters = list(trainee.parameters.values())
    if trainee.device.type == "cuda":
        paged: torch.optim.Optimizer = bnb.optim.PagedAdamW8bit(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        return paged
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def stop_unless_finite(step: int, loss: float, norm: float, examples: list[Example]) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = "loss" if not math.isfinite(loss) else "gradient"
    lines = ", ".join(str(line) for line in sorted(one.line for one in examples)[:32])
    raise JobFailed(
        "non_finite_loss",
        f"The {what} of step {step} is not a finite number; the weights were left as they were after step {step - 1}.",
        f"Look at the lines of that step ({lines}), or lower the learning rate and resume from the last checkpoint.",
    )


def too_large(examples: list[Example]) -> JobFailed:
    longest = max(examples, key=lambda one: one.num_tokens)
    return JobFailed(
        "out_of_memory",
        f"Line {longest.line} alone, with {longest.num_tokens:,} tokens, does not fit into this machine's memory.",
        f"Set max_length below {longest.num_tokens:,}, or choose a machine with more memory.",
    )
