"""Steps of one job with all that happens between them: reports, evaluations, samples, checkpoints, early stopping."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from app.schemas import TrainingConfig
from worker.trainer.atomic import list_files
from worker.trainer.back_off import RowBudget, is_out_of_memory
from worker.trainer.checkpoint import Progress, adapter_tensors, keep_only, save_checkpoint
from worker.trainer.data import Data
from worker.trainer.evaluate import answer_shares, evaluate, rehearse_evaluation
from worker.trainer.guardian import Guardian
from worker.trainer.images import Example
from worker.trainer.job import Job
from worker.trainer.loop import StepMetrics, Stepper
from worker.trainer.memory import Ticker, memory_text
from worker.trainer.resolve import Resolved
from worker.trainer.sample import Sample, Sampler
from worker.trainer.schedule import Plan


@dataclass
class Session:
    """One attempt at a job, from its weights in memory to its last step.

    `best` holds the best weights so far, only where early stopping may want them back.
    """

    job: Job
    data: Data
    plan: Plan
    resolved: Resolved
    identity: dict[str, Any]
    stepper: Stepper
    eval_budget: RowBudget
    sampler: Sampler
    progress: Progress
    guardian: Guardian
    best: dict[str, Tensor] | None = None
    saved_step: int = 0
    _ticker: Ticker = field(default_factory=Ticker)
    _started: float = field(default_factory=time.monotonic)
    _saved_at: float = field(default_factory=time.monotonic)

    @property
    def config(self) -> TrainingConfig:
        return self.job.spec.config

    def run(self) -> None:
        """All steps that are left. On `Interrupted` the state is that of the last whole step."""
        first, last = self.progress.step + 1, self.resolved.num_steps
        if first <= last and says_when_memory_ends(self.stepper.trainee.device):
            self.rehearse()
        self._after_step()  # an evaluation the resumed step still owes
        self.stepper.errand = self._errand
        # One that was killed after its stop had been decided makes no further step.
        last = self.progress.step if self.stops_early else last
        for metrics in self.stepper.steps(self._examples, first, last):
            self.progress.step, self.progress.loss = metrics.step, metrics.loss
            self._report(metrics, metrics.step - first + 1)
            self.guardian.saw_step(metrics)
            self._after_step()
            if self.stops_early:
                break
        if self.stops_early:
            self.job.events.log(
                f"Stopped at step {self.progress.step:,}: the validation loss has not fallen for "
                f"{self.progress.evals_without_gain} evaluations"
            )
        self.save()

    def rehearse(self) -> None:
        """The longest rows of training and of validation, once each: an end of memory comes now, not in an hour."""
        steps = range(self.progress.step + 1, self.resolved.num_steps + 1)
        self.stepper.rehearse(lambda: map(self._examples, steps))
        if self.data.validation:
            stepper, poll = self.stepper, self.job.commands.poll
            rehearse_evaluation(stepper.trainee, self.data.validation, stepper.vision, self.eval_budget, poll)
        self.job.events.log(f"The longest rows fit: up to {self.stepper.budget.tokens:,} tokens of training data")

    @property
    def stops_early(self) -> bool:
        patience = self.config.early_stopping_evals
        return patience is not None and self.progress.evals_without_gain >= patience

    def save(self) -> None:
        """A checkpoint of the last whole step, unless that step has one."""
        step = self.progress.step
        if step == self.saved_step:
            return
        checkpoints = self.job.folder / "checkpoints"
        if self.stepper.budget.tokens < self.resolved.row_tokens:
            self.progress.row_tokens = self.stepper.budget.tokens
        path = save_checkpoint(
            checkpoints, self.stepper.trainee, self.stepper.optimizer, self.progress, self.identity, self.best
        )
        self.saved_step, self._saved_at = step, time.monotonic()
        files = list_files(path, f"checkpoints/{path.name}/")
        self.job.events.emit(
            "checkpoint",
            step=step,
            size=sum(one["size"] for one in files),
            best=step == self.progress.best_step,
            path=f"checkpoints/{path.name}",
            files=files,
            eval_loss=self.progress.eval_loss if self.progress.eval_step == step else None,
        )
        keep_only(checkpoints, self.config.keep_checkpoints, self.progress.best_step if self.config.keep_best else None)

    def _examples(self, step: int) -> list[Example]:
        return [self.data.train[i] for i in self.plan.members(step)]

    def _errand(self) -> Callable[[], None] | None:
        return self._run_errands if self.job.commands.has_errand() else None

    def _run_errands(self) -> None:
        # Before the first step there is nothing to save yet: that request waits for it.
        if self.progress.step and self.job.commands.take("save"):
            self.save()
        if self.job.commands.take("sample"):
            self._sample()

    def _after_step(self) -> None:
        step = self.progress.step
        if step == 0:
            return
        answers: list[Sample] = []
        if self.job.commands.take("sample") or self._due(self.resolved.sample_steps, self.progress.sample_step):
            answers = self._sample()
        improved = self._due(self.resolved.eval_steps, self.progress.eval_step) and self._evaluate(answers)
        minutes = (time.monotonic() - self._saved_at) / 60
        wanted = self.job.commands.take("save") or minutes >= self.config.save_minutes
        if wanted or (improved and self.config.keep_best) or step % self.resolved.save_steps == 0:
            self.save()

    def _between_evaluated_rows(self) -> None:
        self.job.commands.poll()
        if errand := self._errand():
            errand()
            self.saved_step = 0  # told of once more if this evaluation finds that the step is the best one

    def _due(self, cadence: int, done_at: int) -> bool:
        step = self.progress.step
        return step > done_at and (step % cadence == 0 or step == self.resolved.num_steps)

    def _evaluate(self, answers: list[Sample]) -> bool:
        """Reports the validation loss, and how good the answers of this step were; whether the loss is the lowest."""
        if not self.data.validation:
            return False
        stepper, progress = self.stepper, self.progress
        found = evaluate(
            stepper.trainee, self.data.validation, stepper.vision, self.eval_budget, self._between_evaluated_rows
        )
        shares = answer_shares([(one.answer, one.wanted) for one in answers])
        self.job.events.emit("eval", step=progress.step, loss=found.loss, num_targets=found.num_targets, **shares)
        self.guardian.saw_evaluation(found.loss)
        progress.eval_step, progress.eval_loss = progress.step, found.loss
        improved = progress.best_loss is None or found.loss < progress.best_loss
        progress.evals_without_gain = 0 if improved else progress.evals_without_gain + 1
        if improved:
            progress.best_step, progress.best_loss = progress.step, found.loss
            if self.config.early_stopping_evals is not None:
                self.best = adapter_tensors(stepper.trainee)
        return improved

    def _sample(self) -> list[Sample]:
        said: list[Sample] = []
        try:
            for one in self.sampler.samples():
                self._say_sample(one)
                said.append(one)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.job.events.log("Out of memory at the samples: none after this step", level="warning")
        self.progress.sample_step = self.progress.step
        return said

    def _say_sample(self, one: Sample) -> None:
        self.job.events.emit(
            "sample",
            step=self.progress.step,
            prompt_id=one.prompt_id,
            prompt=one.prompt,
            answer=one.answer,
            base_answer=one.base_answer,
            wanted=one.wanted,
        )

    def _report(self, metrics: StepMetrics, done: int) -> None:
        elapsed = time.monotonic() - self._started
        self.job.events.emit(
            "step",
            step=metrics.step,
            num_steps=self.resolved.num_steps,
            epoch=round(self.plan.epoch(metrics.step), 4),
            loss=metrics.loss,
            learning_rate=metrics.learning_rate,
            grad_norm=metrics.grad_norm,
            num_tokens=metrics.num_tokens,
            num_targets=metrics.num_targets,
            tokens_per_s=round(metrics.num_tokens / metrics.step_s, 1),
            step_s=round(metrics.step_s, 4),
            eta_s=round(elapsed / done * (self.resolved.num_steps - metrics.step), 1),
        )
        if self._ticker.due():
            self.job.events.log(memory_text(self.stepper.trainee.device))


def says_when_memory_ends(device: torch.device) -> bool:
    """On a CPU no exception is raised: the system ends the process, and a rehearsal would only cost time."""
    return device.type == "cuda"
