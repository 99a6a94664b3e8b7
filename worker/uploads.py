"""Sends finished files to the control center beside the running trainer, the newest checkpoint first."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.client import Fenced, JobClient, Refused, ServerAway
from worker.files import link_or_copy
from worker.messages import FileSpec

log = logging.getLogger("worker.uploads")

RETRY_S = 1.0
TRIES = 3


@dataclass(frozen=True)
class Bundle:
    """Files that count together. A `needed` one must arrive; another may be retired by the trainer meanwhile."""

    name: str
    files: Sequence[FileSpec]
    needed: bool = False


class Uploader:
    """One thread a job. `problem` says why something needed did not arrive; `fenced` that the claim is lost."""

    def __init__(self, job: JobClient, job_dir: Path) -> None:
        self._job, self._job_dir = job, job_dir
        self._aside = job_dir / "outgoing"
        self._pending: list[Bundle] = []
        self._changed = threading.Condition()
        self._busy = False
        self._closed = threading.Event()
        self.fenced = False
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def add(self, bundle: Bundle) -> None:
        """Sends it when its turn comes. Its files are linked aside: the trainer may retire a checkpoint meanwhile."""
        for file in bundle.files:
            try:
                link_or_copy(self._job_dir / file.path, self._aside / file.path)
            except FileNotFoundError:
                log.info("%s is gone already.", file.path)
        with self._changed:
            self._pending.append(bundle)
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        with self._changed:
            return not self._pending and not self._busy

    def close(self) -> None:
        """Gives up what is not sent yet."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while (bundle := self._next()) is not None:
            try:
                self._send(bundle)
            except Fenced:
                self.fenced = True
                self._closed.set()
            except Exception:
                log.exception("%s cannot be sent.", bundle.name)
                if bundle.needed:
                    self.problem = f"{bundle.name} could not be sent; the worker's log says why"
            finally:
                with self._changed:
                    self._busy = False

    def _next(self) -> Bundle | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed.is_set())
            if self._closed.is_set():
                return None
            self._busy = True
            return self._pending.pop()

    def _send(self, bundle: Bundle) -> None:
        for file in bundle.files:
            problem = self._send_file(file)
            if problem is not None:
                log.warning("%s is not sent: %s", bundle.name, problem)
                if bundle.needed:
                    self.problem = problem
                break
        for file in bundle.files:
            (self._aside / file.path).unlink(missing_ok=True)

    def _send_file(self, file: FileSpec) -> str | None:
        """Why the file cannot be sent, or None when it is. Waits as long as the control center is away."""
        refused = 0
        while not self._closed.is_set():
            try:
                self._job.put_file(file.path, self._aside / file.path, file.sha256)
                return None
            except OSError as error:
                return f"{file.path} cannot be read: {error.strerror}"
            except ServerAway as error:
                log.info("%s waits: %s", file.path, error)
            except Refused as error:
                refused += 1
                if refused == TRIES:
                    return f"{file.path} was refused: {error.message}"
            self._closed.wait(RETRY_S)
        return "the attempt is over"
