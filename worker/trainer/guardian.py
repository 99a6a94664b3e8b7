"""What a watchful person would say beside the curves: advice, each kind once an attempt, and never a step changed."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean, median

from worker.trainer.data import Data
from worker.trainer.events import EventLog
from worker.trainer.loop import StepMetrics

WINDOW = 20
RISE, RISE_LEAST = 1.3, 0.1
EXPLOSION = 10.0
SLOWDOWN = 0.4
BAD_EVALS = 3
FEW_TARGETS = 0.01


@dataclass
class Guardian:
    """Told of steps and evaluations, and speaks as `advice` events. Silent where the job wants none."""

    events: EventLog
    silent: bool = False
    max_norm: float = math.inf
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _least: float = math.inf
    _fastest: float = 0.0
    _since_eval: list[float] = field(default_factory=list)
    _evals: list[tuple[float, float]] = field(default_factory=list)  # training loss since the last one, eval loss
    _said: set[str] = field(default_factory=set)

    def advise(self, code: str, message: str, action: str) -> None:
        if not self.silent and code not in self._said:
            self._said.add(code)
            self.events.emit("advice", step=self.events.step, code=code, message=message, action=action)

    def saw_data(self, data: Data) -> None:
        share = sum(one.num_targets for one in data.train) / max(1, data.num_tokens)
        if share < FEW_TARGETS:
            self.advise(
                "few_targets",
                f"Only {100 * share:.2f} % of the tokens are answers to learn; the rest is read but not trained.",
                "Shorten the prompts, or put more of what shall be learned into the answers.",
            )

    def saw_memory_end(self, text: str) -> None:
        """Each time anew: every lowering is a fact of its own, and stands in the log in any case."""
        self.events.log(text, level="warning")
        self._said.discard("memory_short")
        self.advise(
            "memory_short", f"{text}.", "Nothing is lost; a smaller row_tokens or max_length avoids the detour."
        )

    def saw_step(self, step: StepMetrics) -> None:
        self._watch_norm(step)
        self._watch_loss(step)
        self._watch_speed(step)
        self._since_eval.append(step.loss)

    def saw_evaluation(self, loss: float) -> None:
        trained, self._since_eval = (fmean(self._since_eval) if self._since_eval else math.nan), []
        self._evals = [*self._evals, (trained, loss)][-BAD_EVALS - 1 :]
        if len(self._evals) <= BAD_EVALS:
            return
        pairs = list(zip(self._evals, self._evals[1:], strict=False))
        if all(later[1] > earlier[1] for earlier, later in pairs) and self._evals[-1][0] < self._evals[0][0]:
            self.advise(
                "overfitting",
                f"The validation loss rose at {BAD_EVALS} evaluations in a row while the training loss fell.",
                "Stop here and take the best checkpoint, or train fewer epochs, with a smaller lora_r or more data.",
            )

    def _watch_norm(self, step: StepMetrics) -> None:
        if len(self._norms) == WINDOW and step.grad_norm > EXPLOSION * median(self._norms) > 0:
            self.advise(
                "gradient_exploding",
                f"The gradient norm of step {step.step:,} is {step.grad_norm:.3g}, more than {EXPLOSION:.0f} times what"
                " was usual before.",
                f"{self._clipped(step.grad_norm)}lower the learning rate, or look at the lines of that step.",
            )
        self._norms.append(step.grad_norm)

    def _clipped(self, norm: float) -> str:
        return (
            f"It is clipped at {self.max_norm:g}; if the loss suffers, "
            if norm > self.max_norm
            else "If the loss suffers, "
        )

    def _watch_loss(self, step: StepMetrics) -> None:
        self._losses.append(step.loss)
        if len(self._losses) < WINDOW:
            return
        mean = fmean(self._losses)
        self._least = min(self._least, mean)
        if mean > RISE * self._least + RISE_LEAST:
            self.advise(
                "loss_rising",
                f"The training loss rises: {mean:.3g} over the last {WINDOW} steps, after {self._least:.3g}.",
                "Lower the learning rate, and go on from an earlier checkpoint.",
            )

    def _watch_speed(self, step: StepMetrics) -> None:
        self._speeds.append(step.num_tokens / max(step.step_s, 1e-9))
        if len(self._speeds) < WINDOW:
            return
        speed = median(self._speeds)
        self._fastest = max(self._fastest, speed)
        if speed < SLOWDOWN * self._fastest:
            self.advise(
                "throughput_drop",
                f"It trains {speed:,.0f} tokens a second now; it was {self._fastest:,.0f}.",
                "See whether another program uses the machine, or whether it is hot and slows itself down.",
            )
