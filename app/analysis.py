"""Checks datasets one after the other, each in a child process that reports over a pipe; only this process writes."""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any

from anyio import from_thread, to_thread

from app.db import Database
from app.errors import Conflict
from app.processes import die_with_parent
from app.services import datasets, estimates
from app.services.base_models import BaseModels
from app.space import is_full
from app.storage import Storage

LINE_LIMIT = 64 * 2**20
RETRY_S = 2.0
STOPPED = "Its check was stopped; read it again, or send the same file again."
logger = logging.getLogger(__name__)


class Analysis:
    """The queue of datasets to check. Lives on the event loop."""

    def __init__(self, database: Database, storage: Storage, models: BaseModels) -> None:
        self._database, self._storage, self._models = database, storage, models
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self._finished: dict[int, asyncio.Event] = {}  # of those that wait, and of the one that is checked
        self._queued: set[int] = set()
        self._child: Process | None = None
        self._current: int | None = None
        self._stopped: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what an earlier process left unchecked."""
        for dataset_id in await to_thread.run_sync(self._left_over):
            self.add(dataset_id)
        self._task = asyncio.create_task(self._work())

    def _left_over(self) -> list[int]:
        with self._database.read() as session:
            return [one.id for one in datasets.being_checked(session) if one.id is not None]

    def add(self, dataset_id: int) -> None:
        self._stopped.discard(dataset_id)
        if dataset_id not in self._queued:
            self._queued.add(dataset_id)
            self._finished[dataset_id] = asyncio.Event()
            self._waiting.put_nowait(dataset_id)

    def add_from_thread(self, dataset_id: int) -> None:
        """The same from a thread of the pool."""
        from_thread.run_sync(self.add, dataset_id)

    async def wait(self, dataset_id: int, timeout: float) -> None:
        """Wait for a check to end, at most so many seconds."""
        if finished := self._finished.get(dataset_id):
            try:
                await asyncio.wait_for(finished.wait(), timeout)
            except TimeoutError:
                return

    async def cancel(self, dataset_id: int) -> None:
        """Stop the check of a dataset that is being checked or waits for it; raises `Conflict` for any other."""
        if finished := self._finished.get(dataset_id):
            self._stopped.add(dataset_id)
            if self._current == dataset_id:
                await self._end_child()
                await finished.wait()
            try:
                await to_thread.run_sync(self._fail, dataset_id, STOPPED)
            except Exception:
                self.add(dataset_id)  # it could not be written down, so the check goes on
                raise
        await to_thread.run_sync(self._require_stopped, dataset_id)

    def _require_stopped(self, dataset_id: int) -> None:
        with self._database.read() as session:
            dataset = datasets.get(session, dataset_id)
            if dataset.error != STOPPED:
                raise Conflict(f"Dataset {dataset_id} is {dataset.state}; only a check under way can be stopped.")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._end_child()

    async def _work(self) -> None:
        while True:
            self._current = dataset_id = await self._waiting.get()
            self._queued.discard(dataset_id)
            finished = self._finished[dataset_id]
            try:
                while not await self._try(dataset_id) and dataset_id not in self._stopped:
                    await asyncio.sleep(RETRY_S)
            finally:
                self._current = None
                if self._finished[dataset_id] is finished:  # it was not asked for again meanwhile
                    del self._finished[dataset_id]
                    self._stopped.discard(dataset_id)
                finished.set()

    async def _try(self, dataset_id: int) -> bool:
        """Check it; false while the disk is full, when the same check is made again a little later."""
        try:
            await self._check(dataset_id)
        except Exception as error:
            if is_full(error):
                logger.warning("Dataset %s waits for room on the disk: %s", dataset_id, error)
                await self._end_child()
                return False
            # A fault here is ours: the dataset says so, and the next one is still checked.
            logger.exception("Checking dataset %s broke down", dataset_id)
            await self._give_up(dataset_id)
        return True

    async def _give_up(self, dataset_id: int) -> None:
        await self._end_child()
        try:
            await to_thread.run_sync(self._fail, dataset_id, "The check broke down; the log has the reason.")
        except Exception:
            # The dataset stays `checking` and is checked anew when the process starts again.
            logger.exception("Dataset %s cannot be marked as failed", dataset_id)

    async def _end_child(self) -> None:
        if self._child and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def _check(self, dataset_id: int) -> None:
        arguments = await to_thread.run_sync(self._begin, dataset_id)
        if arguments is None:
            return
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.analyse", *arguments),
            stdin=DEVNULL,
            stdout=PIPE,
            limit=LINE_LIMIT,
            preexec_fn=die_with_parent(),
        )
        if dataset_id in self._stopped:  # asked for while it was being started
            await self._end_child()
        assert self._child.stdout is not None
        done = False
        async for line in self._child.stdout:
            done = await to_thread.run_sync(self._take, dataset_id, json.loads(line)) or done
        code = await self._child.wait()
        if dataset_id in self._stopped and not done:
            await to_thread.run_sync(self._fail, dataset_id, STOPPED)
        elif not done:
            reason = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
            await to_thread.run_sync(
                self._fail, dataset_id, f"The check {reason} before it was through; send it again."
            )

    def _begin(self, dataset_id: int) -> list[str] | None:
        """The file, where its lines go if it has to be unpacked, how it is read, and what it is compared with.

        None for one that waits for no check any more: it was stopped, or asked for twice.
        """
        with self._database.write() as session:
            dataset = datasets.get(session, dataset_id)
            if dataset.state != "checking":
                return None
            datasets.begin_check(session, dataset)
            places = str(self._storage.dataset(dataset.sha256)), str(self._storage.unpacked(dataset.sha256))
            trained = [(str(path), *more) for path, *more in datasets.trained_files(session, self._storage, dataset)]
            return [*places, json.dumps(dataset.reading or {}), json.dumps(trained)]

    def _take(self, dataset_id: int, report: dict[str, Any]) -> bool:
        """Store what the child says; true once it said all, or nobody wants to hear it any more."""
        with self._database.write() as session:
            dataset = datasets.get(session, dataset_id)
            if dataset.state != "checking":
                return True
            if report.get("done"):
                datasets.judge(session, dataset, report)
                estimates.renew(session, self._models, dataset)
                return True
            if "error" in report:
                datasets.fail(session, dataset, str(report["error"]))
                return True
            if "unpacked" in report:
                datasets.note_unpacked(session, dataset, report["unpacked"])
            elif "progress" in report:
                datasets.note_progress(session, dataset, report["progress"])
            elif "findings" in report:
                datasets.add_findings(session, dataset, report["findings"])
            return False

    def _fail(self, dataset_id: int, message: str) -> None:
        """For a check that is under way or waits; one that ended by itself stays as it is."""
        with self._database.write() as session:
            dataset = datasets.get(session, dataset_id)
            if dataset.state == "checking":
                datasets.fail(session, dataset, message)
