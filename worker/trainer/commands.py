"""What the worker asks of a trainer: empty flag files in `commands/`, and SIGTERM."""

import os
import signal
from pathlib import Path
from types import FrameType

from worker.trainer.faults import Ask, Interrupted

# In the order in which they win when several are there.
ASKS = {
    "stop": Ask("cancelled", save=False),
    "cancel": Ask("cancelled", save=True),
    "pause": Ask("paused", save=True),
    "release": Ask("released", save=True),
}


# Done between two rows, after which the job goes on.
ERRANDS = ("save", "sample")


class Commands:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._terminated = False

    def listen_for_sigterm(self) -> None:
        """SIGTERM means release: save, and give the job back to the queue."""
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

    def poll(self) -> None:
        """Raises `Interrupted` when an end was asked for; a few microseconds otherwise."""
        names = set(os.listdir(self._folder))
        for name, ask in ASKS.items():
            if name in names or (name == "release" and self._terminated):
                raise Interrupted(ask)

    def has_errand(self) -> bool:
        """Whether something was asked for that does not end the job."""
        return any((self._folder / name).exists() for name in ERRANDS)

    def take(self, name: str) -> bool:
        """Whether this errand was asked for since the last call; the flag file is removed."""
        flag = self._folder / name
        if not flag.exists():
            return False
        flag.unlink(missing_ok=True)
        return True
