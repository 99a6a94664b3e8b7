"""One job as the trainer sees it: what to do, where to write, whom to tell, whom to ask."""

from dataclasses import dataclass
from pathlib import Path

from app.schemas import JobSpec
from worker.trainer.commands import Commands
from worker.trainer.events import EventLog


@dataclass(frozen=True)
class Job:
    spec: JobSpec
    folder: Path
    events: EventLog
    commands: Commands

    @property
    def model_dir(self) -> Path:
        return Path(self.spec.model_path)
