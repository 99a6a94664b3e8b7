"""The sweeper: one thread that takes back lost jobs, wakes idle lanes and clears away what is past keeping."""

import logging
import threading
import time
from datetime import datetime, timedelta

from sqlmodel import Session, col, delete

from app.backup import DailyBackups
from app.columns import utc_now
from app.db import Database
from app.models import Nonce
from app.queue import Waker
from app.services import attempts, checkpoints, events, limits, nodes, purge, retention
from app.space import Disk
from app.storage import Storage

SWEEP_S = 5.0
TIDY_S = 60.0
JUMP_S = 5.0
KEEP_EVENTS = timedelta(days=7)
logger = logging.getLogger(__name__)


class Sweeper:
    """Runs until `stop`; a `nudge` (a commit that may have made work) lets it look at once."""

    def __init__(self, database: Database, storage: Storage, disk: Disk, waker: Waker, lease_s: float) -> None:
        self._database, self._storage, self._waker = database, storage, waker
        self._disk, self._backups = disk, DailyBackups(database, storage, disk)
        self._lease_s, self._pause_s = lease_s, min(SWEEP_S, lease_s / 3)
        self._due = threading.Event()
        self._stopping = False
        self._tidied_at = 0.0
        self._looked_at = (time.time(), time.monotonic())
        self._began_at = (utc_now(), time.monotonic())
        self._jumps: list[tuple[datetime, float]] = []  # when the clock was found ahead, and by how many seconds
        self._failed = False
        self._thread = threading.Thread(target=self._loop, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        self._due.set()

    def stop(self) -> None:
        self._stopping = True
        self._due.set()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        self._waker.load()
        while not self._stopping:
            self._due.clear()
            try:
                self.sweep()
            except Exception:
                # Whatever it was, lost jobs must still be taken back and lanes woken at the next turn.
                logger.exception("The sweep could not be carried out")
            self._due.wait(self._pause_s)

    def sweep(self) -> None:
        """One turn."""
        failed, self._failed = self._failed, True
        was_full = self._disk.was_full
        with self._database.write() as session:
            lost = self._time_was_lost()
            if failed or was_full or lost:
                # Beats could not be taken: their workers must not lose their jobs for it.
                attempts.extend_leases(session, self._lease_s)
            else:
                attempts.reap(session)
            limits.stop_overlong(session, self._jumps)
        self._failed = False
        if was_full:
            self._disk.was_full = False
        for queue in self._queues_to_wake():
            if not self._waker.wake(queue):
                break
        self._tidy()
        self._backups.tend()

    def _time_was_lost(self) -> bool:
        """Whether leases say nothing now: the clock was set, or since the last turn nothing could be written.

        A database that is locked by a backup, a full disk, a machine that slept: workers that went on keep their jobs.
        """
        wall, steady = self._looked_at
        self._looked_at = (time.time(), time.monotonic())
        passed = self._looked_at[1] - steady
        was_set = self._looked_at[0] - wall - passed
        if was_set > JUMP_S:
            self._jumps.append((utc_now(), was_set))
        return max(passed - self._pause_s, abs(was_set)) > self._lease_s / 2

    def _surely_now(self) -> datetime:
        """The earlier of two clocks, lest one that was set ahead throws things away for good before their time."""
        wall, steady = self._began_at
        return min(utc_now(), wall + timedelta(seconds=time.monotonic() - steady))

    def _tidy(self) -> None:
        """What fails here is tried again at the next turn of tidying, and holds nothing else up."""
        if time.monotonic() - self._tidied_at <= TIDY_S:
            return
        self._tidied_at = time.monotonic()
        for part in (self._tidy_rows, self._tidy_checkpoints, self._tidy_trash):
            try:
                with self._database.write() as session:
                    part(session)
            except Exception:
                logger.exception("What is past keeping could not be cleared away")

    def _tidy_rows(self, session: Session) -> None:
        events.prune(session, self._surely_now() - KEEP_EVENTS)
        session.exec(delete(Nonce).where(col(Nonce.expires_at) < time.time()))

    def _tidy_checkpoints(self, session: Session) -> None:
        retention.apply(session)
        checkpoints.remove_unfinished(session, self._storage, self._surely_now())
        checkpoints.remove_retired(session, self._storage)

    def _tidy_trash(self, session: Session) -> None:
        keep = timedelta(days=retention.read(session).trash_days)
        purge.expired(session, self._storage, keep, self._surely_now())

    def _queues_to_wake(self) -> list[str]:
        with self._database.read() as session:
            return nodes.queues_to_wake(session)
