"""How a job ends other than well: a fault that a person can act on, or an interruption somebody asked for."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["succeeded", "cancelled", "paused", "released", "failed"]


class JobFailed(Exception):
    """The job cannot go on: a code, one sentence, and what to do about it."""

    def __init__(self, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "advice": self.advice}


@dataclass(frozen=True)
class Ask:
    """What somebody asked of the trainer: how the job shall end, and whether its state is saved first."""

    outcome: Outcome
    save: bool


class Interrupted(Exception):
    """Raised from a poll: stop what you are doing, the job ends now."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.outcome)
        self.ask = ask
