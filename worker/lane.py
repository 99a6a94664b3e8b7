"""One lane in its Celery child: claims what fits and supervises it, one job at a time."""

import logging
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from app.broker import POLL_S
from app.config import Settings
from app.gpus import Gpu
from worker.client import FORBIDDEN_BY_STATE, UNKNOWN, Client, Refused, ServerAway
from worker.ending import failed
from worker.faults import worker_fault
from worker.job_dirs import prune
from worker.messages import Claim
from worker.node import describe_node
from worker.process import end_strangers
from worker.supervise import Bench, supervise

log = logging.getLogger("worker.lane")

TRAINER = (sys.executable, "-m", "worker.trainer")
AWAY_S = 1.0


class Lane:
    """Woken by Celery and by its own clock; both call `work`, and never two jobs run at once.

    Of several GPUs a trainer gets the first: it trains on one, and a checkpoint must fit a lane with fewer.
    """

    def __init__(
        self, settings: Settings, gpus: Sequence[Gpu], draining: Callable[[], bool], trainer: Sequence[str] = TRAINER
    ) -> None:
        self._settings, self._gpus, self._draining = settings, gpus, draining
        self._client = Client(settings.base_url, settings.worker_token_path)
        self._bench = Bench(self._client, settings, draining, trainer, gpus[0].uuid if gpus else None)
        self._jobs_dir: Path = settings.work_path.absolute() / "jobs"
        self._node_id: int | None = None
        self._claim_key = uuid.uuid4().hex
        self._working = threading.Lock()
        self._woken = threading.Event()
        self._last_problem = ""

    def start(self) -> None:
        """Ends what an earlier life left and begins to look for work by itself."""
        self._jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for pid in end_strangers(self._jobs_dir, self._settings.lane):
            log.warning("Ended trainer %s, which an earlier worker of this lane left behind.", pid)
        try:
            prune(self._jobs_dir)
        except OSError as error:
            log.warning("What earlier jobs left could not be cleared away: %s", error)
        # The thread lives as long as the process: trainers that it starts die with the thread that started them.
        threading.Thread(target=self._poll, name="poll", daemon=True).start()

    def work(self) -> None:
        """Claims and supervises until nothing fits. Returns at once while another thread does so."""
        self._woken.set()
        while self._woken.is_set() and self._working.acquire(blocking=False):
            try:
                # A wake-up that comes from here on finds the lock taken and is noted, so none is lost.
                self._woken.clear()
                while (claim := self._claim()) is not None:
                    self._carry_out(claim)
            finally:
                self._working.release()

    def close(self) -> None:
        """Waits until no job is supervised; for the end of the process, when `draining` is set."""
        with self._working:
            self._client.close()

    def _carry_out(self, claim: Claim) -> None:
        try:
            supervise(claim, self._bench)
        except OSError as error:
            # Most often a full disk: the job must not wait for its lease and then meet the same again.
            log.exception("Job %s cannot be carried out here.", claim.job_id)
            ending = failed(worker_fault(error), claim.resume.step if claim.resume else 0)
            self._client.job(claim.job_id, claim.attempt, claim.claim_token).end(ending)

    def _poll(self) -> None:
        rest = threading.Event()
        # At once, too: a claim tells the control center that the job this lane held before is not carried on.
        while True:
            try:
                self.work()
            except Exception:
                # The lane must go on looking for work; the job itself comes back by its lease.
                log.exception("A job could not be supervised.")
            # Nobody to ask: soon there may be, and a job that this lane held before waits for that claim.
            rest.wait(AWAY_S if self._last_problem else POLL_S)

    def _claim(self) -> Claim | None:
        if self._draining():
            return None
        try:
            claim = self._registered_claim()
        except (ServerAway, Refused) as error:
            if isinstance(error, Refused) and error.status == FORBIDDEN_BY_STATE:
                # It may not join, which its heart says; it asks again as rarely as it looks for work.
                self._last_problem = ""
            else:
                self._tell_once(str(error))
            return None
        self._last_problem = ""
        return claim

    def _registered_claim(self) -> Claim | None:
        if self._node_id is None:
            self._node_id = self._client.register(describe_node(self._settings, self._gpus))
        try:
            claim = self._client.claim(self._node_id, self._settings.lane, self._claim_key)
        except Refused as error:
            if error.status in (UNKNOWN, FORBIDDEN_BY_STATE):
                # The control center has other data than before, or is another version; the next try registers anew.
                self._node_id = None
            raise
        # An answer that did not arrive keeps its key: asked again, the same claim comes.
        self._claim_key = uuid.uuid4().hex
        return claim

    def _tell_once(self, problem: str) -> None:
        if problem != self._last_problem:
            log.warning("No job can be claimed: %s", problem)
        self._last_problem = problem
