"""The inbox: one thread that takes files from a folder, has them checked and trained, and puts them where they belong.

`step` does everything; it may be broken off at any point and called again. A row changes in one transaction, and a file
is moved only after its row says where to (`becoming`, `target`), so that a move that broke off is found and finished.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from watchfiles import watch

from app import inbox_files as files
from app.config import Settings
from app.db import Database
from app.inbox_files import Seen, Standing
from app.inbox_intake import Intake
from app.inbox_moves import Mover
from app.inbox_table import InboxFile
from app.processes import take_lock
from app.services import inbox
from app.services.base_models import BaseModels
from app.space import Disk
from app.storage import Storage

LOOK_S = 1.0  # a look without being told of a change: a missed event only delays
QUIET_LOOK_S = 5.0  # the same while no file lies there and none is under way
WATCH_STEP_MS = 500  # watchfiles' own 50 ms costs half a percent of a core for nothing: files settle for seconds
SETTLE_S = 2.0
LOCK = ".lock"
TAKEN = "Another control center watches {folder}: only one may. Stop that one, or give this one another --inbox."
logger = logging.getLogger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change


class Inbox:
    """Watches until `stop`. `begin_check` is given the id of each dataset that came in."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        disk: Disk,
        models: BaseModels,
        begin_check: Callable[[int], None],
        settle_s: float = SETTLE_S,
    ) -> None:
        self.folder = settings.inbox_path
        self.standing = Standing(self.folder)
        self._database, self._settle_s = database, settle_s
        self._since: dict[str, tuple[Any, float]] = {}  # name -> what it looked like, and since when
        self._lock: int | None = None
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._busy, self._looked_at = True, 0.0
        self._intake = Intake(settings, database, storage, disk, models, begin_check, self._stopping)
        self._mover = Mover(self.folder, database)
        self._thread = threading.Thread(target=self._loop, name="inbox", daemon=True)

    def start(self) -> None:
        self._thread.start()
        # The interpreter must not end under a thread that is inside watchfiles.
        atexit.register(self._thread.join, WATCH_STEP_MS / 1000 + LOOK_S)

    def nudge(self) -> None:
        """A file was asked for: look at the next second."""
        self._busy = True

    def stop(self) -> None:
        """Once a turn that is under way has ended none begins any more; the thread ends when watchfiles looks up."""
        self._stopping.set()
        with self._turn:
            self._unlock()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._try_step()
            try:
                for changes in self._changes():
                    if changes or self._busy or time.monotonic() - self._looked_at >= QUIET_LOOK_S:
                        self._try_step()
            except (OSError, RuntimeError) as error:
                # No folder yet, no watches left on this machine, a name that is not UTF-8 (which watchfiles cannot
                # tell of): looking now and then finds the same.
                logger.debug("The inbox is not watched: %s", error)
            self._stopping.wait(LOOK_S)

    def _changes(self) -> Iterator[Any]:
        """Something each time the folder changed, and once a second."""
        return watch(
            self.folder,
            watch_filter=None,
            debounce=WATCH_STEP_MS,
            step=WATCH_STEP_MS,
            rust_timeout=int(LOOK_S * 1000),
            yield_on_timeout=True,
            stop_event=self._stopping,
            raise_interrupt=False,
            recursive=False,
        )

    def _try_step(self) -> None:
        try:
            self.step()
        except Exception:
            # Whatever it was, the other files must still be looked after at the next turn.
            logger.exception("The inbox could not be looked after")

    def step(self) -> None:
        """One turn: look at the folder, then bring each file as far as it goes now."""
        with self._turn:
            self._looked_at = time.monotonic()
            if self._stopping.is_set() or not self._locked():
                return
            self._busy = False
            self._mover.finish()
            settled = self._look()
            with self._database.read() as session:
                under_way = inbox.under_way(session)
            self._busy = self._busy or bool(under_way or self._since)
            for row in [row for row in under_way if row.becoming is None and row.job_id is None]:
                if self._stopping.is_set():
                    return
                self._intake.bring_on(row, settled)
            self._intake.follow_jobs()
            self._mover.finish()

    # ---- the lock: two control centers on one inbox would train each file twice -------------------------------
    def _locked(self) -> bool:
        problem = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is not None and not self._lock_is_ours():
                self._unlock()
            if self._lock is None:
                self._lock = take_lock(self.folder / LOCK)
                problem = None if self._lock is not None else TAKEN.format(folder=self.folder)
        except OSError as error:
            problem = f"The inbox {self.folder} cannot be used: {error.strerror or error}."
        if problem and problem != self.standing.problem:
            logger.warning(problem)
        self.standing.problem = problem
        return problem is None

    def _lock_is_ours(self) -> bool:
        """False once somebody deleted the folder and made it anew: our lock is of a file that is gone."""
        try:
            return os.path.samestat(os.fstat(self._lock or 0), (self.folder / LOCK).lstat())
        except FileNotFoundError:
            return False

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ---- what lies in the folder -------------------------------------------------------------------------------
    def _look(self) -> set[str]:
        """Match files with rows; the names that did not change for a while, nor did their sidecars."""
        found = {seen.name: seen for seen in files.scan(self.folder)}
        with self._database.read() as session:
            known = {row.place: row for row in inbox.under_way(session) if row.place and "/" not in row.place}
        rows = {name: row for name, row in known.items() if row.becoming is None}
        new = [seen for name, seen in found.items() if name not in known]
        changed = [row for name, row in rows.items() if name in found and found[name].stamp != (row.size, row.mtime_ns)]
        gone = [row for name, row in rows.items() if name not in found]
        if new or changed or gone:
            self._note_look(new, [(row, found[row.place or ""]) for row in changed], gone)
        now = time.monotonic()
        stamps = {name: (seen, files.sidecar_stamp(self.folder, name)) for name, seen in found.items()}
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == stamp else (stamp, now)
            for name, stamp in stamps.items()
        }
        return {name for name, (_, since) in self._since.items() if now - since >= self._settle_s}

    def _note_look(self, new: list[Seen], changed: list[tuple[InboxFile, Seen]], gone: list[InboxFile]) -> None:
        with self._database.write() as session:
            for row, seen in changed:
                row = inbox.get(session, row.id or 0)
                if row.dataset_id is None:
                    row.size, row.mtime_ns = seen.stamp
                    inbox.change(session, row, "settling")
                else:
                    # Another file under the name of one in work: that one goes on from the bytes that were stored.
                    row.place = None
                    new.append(seen)
                session.add(row)
            for row in gone:
                row = inbox.get(session, row.id or 0)
                if row.dataset_id is None:
                    inbox.forget(session, row)
                row.place = None
            for seen in new:
                inbox.sight(session, seen.name, *seen.stamp)
