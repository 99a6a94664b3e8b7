"""One file of the inbox on its way in: copied into the storage, checked, and queued with what its sidecar says."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlmodel import Session

from app import inbox_files as files
from app.config import Settings
from app.db import Database
from app.errors import AppError, Conflict, DiskFull, NotFound, WrongInput
from app.inbox_files import Seen
from app.inbox_table import InboxFile
from app.models import Dataset
from app.services import datasets, estimates, inbox, jobs, rechecks, recipes, sidecars
from app.services.base_models import BaseModels
from app.services.sidecars import Sidecar, SidecarWrong
from app.space import Disk, is_full
from app.storage import CHUNK, PartWriter, Received, Storage

NO_MODEL = "It waits for a base model: name one in {name}.yaml (`model: NAME`), or start with --default-model."
RETRY_S = 15.0  # before what is held or waits is tried again although nothing about it changed


class Changed(Exception):
    """The file changed while it was read."""


class Waiting(AppError):
    """Something is not there yet."""

    status_code, code = 409, "inbox_waits"


class Intake:
    """`begin_check` is given the id of each dataset that came in; a copy is broken off once `stopping` is set."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        disk: Disk,
        models: BaseModels,
        begin_check: Callable[[int], None],
        stopping: threading.Event,
    ) -> None:
        self._folder, self._settings = settings.inbox_path, settings
        self._database, self._storage, self._disk, self._models = database, storage, disk, models
        self._begin_check, self._stopping = begin_check, stopping
        self._tried: dict[int, tuple[Any, float]] = {}  # row -> what was tried without success, and when

    def follow_jobs(self) -> None:
        with self._database.read() as session:
            moved_on = inbox.to_follow(session)
        for row_id in moved_on:
            with self._database.write() as session:
                inbox.follow(session, inbox.get(session, row_id))

    def bring_on(self, row: InboxFile, settled: set[str]) -> None:
        """As far as it goes now; what cannot be done for a reason of the file stands in its row."""
        assert row.id is not None
        if row.dataset_id is None and row.place not in settled:
            return
        stamp = (
            row.dataset_id,
            self._state_of(row),
            row.size,
            row.mtime_ns,
            files.sidecar_stamp(self._folder, row.name),
        )
        tried, at = self._tried.get(row.id, (None, 0.0))
        if tried == stamp and time.monotonic() - at < RETRY_S:
            return
        try:
            if row.dataset_id is None:
                self._take(row)
            else:
                self._judge(row)
            self._tried.pop(row.id, None)
        except (SidecarWrong, WrongInput, Conflict, NotFound) as error:
            self._hold(row.id, "held", error.message, stamp)
        except (DiskFull, Waiting) as error:
            self._hold(row.id, "waiting", error.message, stamp)
        except Changed:
            return
        except OSError as error:
            sentence = self._disk.full_message() if is_full(error) else f"It cannot be read: {error.strerror or error}."
            self._hold(row.id, "waiting" if is_full(error) else "held", sentence, stamp)

    def _state_of(self, row: InboxFile) -> str | None:
        if row.dataset_id is None:
            return None
        with self._database.read() as session:
            return datasets.get(session, row.dataset_id).state

    def _hold(self, row_id: int, state: str, reason: str, stamp: Any) -> None:
        self._tried[row_id] = (stamp, time.monotonic())
        with self._database.read() as session:
            row = inbox.get(session, row_id)
            if (row.state, row.reason) == (state, reason):
                return
        with self._database.write() as session:
            inbox.change(session, inbox.get(session, row_id), state, reason)

    def _orders(self, name: str) -> Sidecar:
        """What the sidecar says, checked but for the dataset; raises `SidecarWrong` and `Waiting`."""
        path = files.find_sidecar(self._folder, name)
        sidecar = Sidecar(name)
        if path is not None:
            with files.open_plain(path) as stream:
                data = stream.read(files.LARGEST_SIDECAR + 1)
            if len(data) > files.LARGEST_SIDECAR:
                raise SidecarWrong(f"{path.name} is larger than 64 KiB; a sidecar is a few lines.")
            sidecar = sidecars.read(path.name, data)
        body = self._body(sidecar)
        if "recipe" in body and "recipe" not in sidecar.body:
            self._require_recipe(body["recipe"])
        if "model" not in body:
            raise Waiting(NO_MODEL.format(name=name))
        with self._database.read() as session:
            try:
                jobs.read_new_job(session, body, self._models)
            except WrongInput as error:
                if detail := [one for one in error.detail if one["field"] != "dataset_id"]:
                    raise sidecar.wrong(detail) from None
        return sidecar

    def _take(self, row: InboxFile) -> None:
        path = self._folder / row.name
        seen = files.look(path)
        if seen is None:
            return
        if not seen.plain:
            raise SidecarWrong(
                f"{row.name} is a link or no regular file, and the inbox takes only those; copy it here."
            )
        if seen.size == 0:
            raise Waiting("It is empty: it is taken once there is something in it.")
        if seen.size > self._settings.max_upload_bytes:
            raise SidecarWrong(f"{row.name} is larger than the limit of {self._settings.max_upload_bytes:,} bytes.")
        asked = self._orders(row.name).reading
        self._disk.require(seen.size, row.name)
        received = self._copy(path, seen)
        try:
            with self._database.write() as session:
                row = inbox.get(session, row.id or 0)
                meant = msgspec.to_builtins(asked) or None
                dataset, known = datasets.receive(session, self._storage, received, row.name, meant)
                again = [] if known else [dataset.id or 0]
                if known and meant not in (None, dataset.reading):
                    again = rechecks.read_as(session, dataset, asked)
                inbox.take(session, row, dataset)
        finally:
            received.drop()
        for dataset_id in again:
            self._begin_check(dataset_id)

    def _copy(self, path: Path, seen: Seen) -> Received:
        writer = PartWriter(self._storage.incoming)
        try:
            with files.open_plain(path) as stream:
                while chunk := stream.read(CHUNK):
                    if self._stopping.is_set():
                        raise Changed
                    if writer.add(chunk):
                        writer.flush()
                after = os.fstat(stream.fileno())
            if (after.st_size, after.st_mtime_ns) != seen.stamp or writer.size != seen.size:
                raise Changed
            return writer.finish()
        finally:
            writer.abandon()

    def _judge(self, row: InboxFile) -> None:
        if self._state_of(row) in ("receiving", "checking"):
            return
        sidecar = self._orders(row.name)
        with self._database.write() as session:
            self._decide(session, inbox.get(session, row.id or 0), sidecar)

    def _decide(self, session: Session, row: InboxFile, sidecar: Sidecar) -> None:
        """Where a checked file goes: to the queue, or out."""
        dataset = datasets.get(session, row.dataset_id or 0)
        num_wrong, error_share = (dataset.num_records or 0) - (dataset.num_valid or 0), self._settings.inbox_error_share
        if dataset.state in ("failed", "refused"):
            inbox.send(session, row, "quarantined", dataset.error)
        elif num_wrong > error_share * (dataset.num_records or 0):
            share = f"{100 * num_wrong / (dataset.num_records or 1):.3g} %"
            told = f"{num_wrong:,} of {dataset.num_records:,} lines ({share}) are in error, more than "
            told += f"{100 * error_share:g} %. Its report names each; mend them here and replay it."
            inbox.send(session, row, "quarantined", told)
        else:
            self._queue(session, row, dataset, sidecar)

    def _queue(self, session: Session, row: InboxFile, dataset: Dataset, sidecar: Sidecar) -> None:
        try:
            new, config = jobs.read_new_job(session, self._body(sidecar) | {"dataset_id": dataset.id}, self._models)
            job = estimates.attach(session, self._models, jobs.create(session, new, config, "inbox"))
        except WrongInput as error:
            raise sidecar.wrong(error.detail) from None
        row.job_id = job.id
        num_wrong, num_records = (dataset.num_records or 0) - (dataset.num_valid or 0), dataset.num_records
        left_out = f"{num_wrong:,} of {num_records:,} lines cannot be trained and are left out."
        inbox.change(session, row, "queued", left_out if num_wrong else None)

    def _require_recipe(self, name: str) -> None:
        with self._database.read() as session:
            if name not in recipes.names(session):
                raise Waiting(f"There is no recipe {name!r}, which --default-recipe names: make it, and this goes on.")

    def _body(self, sidecar: Sidecar) -> dict[str, Any]:
        """The job's body but for its dataset."""
        default = {"model": self._models.default, "recipe": self._settings.default_recipe}
        body = default | sidecar.body
        return {name: value for name, value in body.items() if value not in (None, "")}
