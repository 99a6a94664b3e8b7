"""One optimizer step after the other. Knows no job: examples come in, metrics go out, the caller does the rest."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import bitsandbytes as bnb
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from app.schemas import TrainingConfig
from worker.trainer.back_off import RowBudget, free_cached, is_out_of_memory, memory_code
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee
from worker.trainer.packing import longest_row, pack, target_scales
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


def no_errand() -> None:
    """Nothing is to be done between two rows."""


@dataclass
class Stepper:
    """Takes optimizer steps. `poll` is called between rows and may raise; then the step has not happened.

    `errand` is asked between rows, too: what it answers is done there, with the state of the last whole step.
    """

    trainee: Trainee
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    vision: Vision
    rate: Callable[[int], float]
    budget: RowBudget
    poll: Callable[[], None]
    errand: Callable[[], Callable[[], None] | None] = no_errand

    def steps(self, members: Callable[[int], list[Example]], first: int, last: int) -> Iterator[StepMetrics]:
        """Yields after each step, with the new weights in place; between yields the caller may save or evaluate."""
        self.trainee.peft.train()
        for step in range(first, last + 1):
            started = time.perf_counter()
            examples = members(step)
            loss = self._gradients(examples, f"step {step:,}")
            total = self._norm()
            norm = float(total)
            stop_unless_finite(step, loss, norm, examples)  # before the weights move
            self._move(step, total)
            yield StepMetrics(
                step=step,
                loss=loss,
                learning_rate=self.rate(step),
                grad_norm=norm,
                num_tokens=sum(one.num_tokens for one in examples),
                num_targets=sum(one.num_targets for one in examples),
                step_s=time.perf_counter() - started,
            )

    def rehearse(self, steps: Callable[[], Iterable[list[Example]]]) -> None:
        """Forward and backward pass of the longest row to come, so that memory that is too small shows at once.

        Only the row budget is changed by it, and that only where memory ran out.
        """
        self.trainee.peft.train()
        before, tried = torch_state(), 0
        while tried != self.budget.tokens:
            tried = self.budget.tokens
            try:
                for one in self.trainee.parameters.values():
                    one.grad = torch.zeros_like(one)  # as they are from a step's second row on
                self._gradients(longest_row(steps(), tried), "the longest row")
            finally:
                self._undo(before)

    def _gradients(self, examples: list[Example], doing: str) -> float:
        """The loss of the examples, its gradients left in the parameters."""
        before = torch_state()
        scales = target_scales(examples, self.config.loss_mean)

        def forward_backward(members: list[int]) -> Tensor:
            self.poll()
            self._run_errand(before)
            row = pack([examples[i] for i in members], [scales[i] for i in members], self.vision, self.trainee.device)
            loss = target_cross_entropy(self.trainee.hidden(row), self.trainee.head, row.labels, row.scale)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach().double()

        losses = self.budget.run(examples, doing, forward_backward, lambda: self._undo(before))
        return float(torch.stack(losses).sum())

    def _run_errand(self, before: list[Tensor]) -> None:
        """With the generators of the last whole step, as a checkpoint has to hold them; this step's come back after."""
        errand = self.errand()
        if errand is None:
            return
        now = torch_state()
        restore_torch(before)
        try:
            errand()
        finally:
            restore_torch(now)

    def _norm(self) -> Tensor:
        """Of all gradients. It only reads, so it may be tried once more where memory ran out."""
        gradients = [one.grad for one in self.trainee.parameters.values() if one.grad is not None]
        try:
            return get_total_norm(gradients)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        free_cached()
        return get_total_norm(gradients)

    def _move(self, step: int, norm: Tensor) -> None:
        """Clips and takes the step. Half of it cannot be undone, so an end of memory here ends the job."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        try:
            clip_grads_with_norm_(self.trainee.parameters.values(), self.config.max_grad_norm, norm)
            self.optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise JobFailed(
                memory_code(),
                f"Memory ran out while the optimizer moved the weights of step {step:,}; that step cannot be repeated.",
                "Lower row_tokens or lora_r, and resume from the last checkpoint.",
            ) from error
        self.optimizer.zero_grad(set_to_none=True)

    def _undo(self, generators: list[Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        restore_torch(generators)


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
