"""Backups: a folder (or tar) with the database as of one moment and a manifest of the artefacts it speaks of.

With `full` the artefacts themselves lie in it as well, hard-linked where the file system allows; they never change
once they are written.
"""

import json
import logging
import os
import shutil
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.columns import utc_now
from app.db import Database
from app.errors import Conflict, NotFound
from app.hub import iso
from app.services import retention
from app.space import Disk, human
from app.storage import Storage, sha256_of, sync_folder

DATABASE, MANIFEST, FILES = "control.sqlite3", "manifest.json", "files"
DAILY = "daily-"
DAY_S = timedelta(days=1).total_seconds()
logger = logging.getLogger(__name__)


def stamp() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09}"


def snapshot(database: Path, target: Path) -> None:
    """A compact copy of the database as of now, mode 0600, on the disk when this returns; writers may go on."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    finally:
        connection.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())


def back_up(storage: Storage, to: Path | None = None, full: bool = False) -> Path:
    """Make a backup and return where it is: it appears whole or not at all. `to` is a folder, or a tar to be made.

    A folder that is there already gets the backup as a folder in it.
    """
    if not storage.database.is_file():
        raise NotFound(f"There is no control center in {storage.root}: name its --data-dir.")
    name = f"backup-{stamp()}"
    target = to or storage.backups / name
    if target.is_dir():
        target = target / name
    elif target.exists():
        raise Conflict(f"{target} is there already: name another place.")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _fill(storage, part, full)
        _put(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _fill(storage: Storage, folder: Path, full: bool) -> None:
    folder.mkdir(mode=0o700)
    snapshot(storage.database, folder / DATABASE)
    named = list(artefacts(folder / DATABASE, storage))
    if full:
        for one in named:
            one["missing"] = not _link(storage.root / one["path"], folder / FILES / one["path"])
    manifest = {
        "made_at": iso(utc_now()),
        "full": full,
        "database": {"size": (folder / DATABASE).stat().st_size, "sha256": sha256_of(folder / DATABASE)},
        "artefacts": named,
    }
    descriptor = os.open(folder / MANIFEST, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _put(part: Path, target: Path) -> None:
    """The finished folder in its place, or as a tar there."""
    if target.suffix != ".tar":
        part.rename(target)
    else:
        unnamed = target.with_name(f".{target.name}.tmp")
        try:
            with os.fdopen(os.open(unnamed, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "wb") as file:
                with tarfile.open(fileobj=file, mode="w") as archive:
                    archive.add(part, arcname=".")
                file.flush()
                os.fsync(file.fileno())
            unnamed.rename(target)
        finally:
            unnamed.unlink(missing_ok=True)
    sync_folder(target.parent)


def _link(source: Path, target: Path) -> bool:
    """The same bytes at `target`; false where the source is gone."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o600)
    return True


def artefacts(database: Path, storage: Storage) -> Iterator[dict[str, Any]]:
    """Every file a database speaks of: kind, id, path below the data directory, size and sha256."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        # A deleted dataset keeps a row while jobs point at it, and has no file.
        columns = {row[1] for row in connection.execute("PRAGMA table_info(dataset)")}
        here = "trashed_at IS NULL OR trashed_at > '1971'" if "trashed_at" in columns else "1"
        for number, sha256, size in connection.execute(f"SELECT id, sha256, size FROM dataset WHERE {here}"):
            yield _artefact(storage, "dataset", number, storage.dataset(sha256), size, sha256)
        if "unpacked" in columns:
            found = connection.execute(f"SELECT id, sha256, unpacked FROM dataset WHERE unpacked NOTNULL AND ({here})")
            for number, sha256, unpacked in found:
                lines = json.loads(unpacked)
                place = storage.unpacked(sha256)
                yield _artefact(storage, "dataset", number, place, lines["size"], lines["sha256"])
        if "made" in columns:
            found = connection.execute(f"SELECT id, sha256, made FROM dataset WHERE made NOTNULL AND ({here})")
            for number, sha256, made in found:
                changes = json.loads(made)["changes"]
                yield _artefact(storage, "dataset", number, storage.changes(sha256), changes["size"], changes["sha256"])
        of_attempts = (
            ("adapter", "adapter/", "SELECT id, job_id, attempt, files FROM adapter"),
            ("checkpoint", "", "SELECT id, job_id, attempt, files FROM checkpoint WHERE complete AND NOT retired"),
        )
        for kind, prefix, query in of_attempts:
            for number, job_id, attempt, files in connection.execute(query):
                for one in json.loads(files):
                    place = storage.attempt(job_id, attempt) / f"{prefix}{one['path']}"
                    yield _artefact(storage, kind, number, place, one["size"], one["sha256"])
    finally:
        connection.close()


def _artefact(storage: Storage, kind: str, number: int, place: Path, size: int, sha256: str) -> dict[str, Any]:
    return {"kind": kind, "id": number, "path": str(place.relative_to(storage.root)), "size": size, "sha256": sha256}


class DailyBackups:
    """A backup a day into the data directory, in a thread of its own; as many are kept as the retention says."""

    def __init__(self, database: Database, storage: Storage, disk: Disk) -> None:
        self._database, self._storage, self._disk = database, storage, disk
        self._thread: threading.Thread | None = None
        self._next_look = 0.0

    def tend(self) -> None:
        """Start one where it is due."""
        now = time.time()
        if now < self._next_look or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_look = now + 600
        newest = max((one.stat().st_mtime for one in self._made()), default=None)
        if newest is None:
            # A new control center has nothing to lose; its first backup is made when it is a day old.
            newest = (self._storage.root / "token").stat().st_mtime
        if now - newest > DAY_S:
            self._thread = threading.Thread(target=self._run, name="backup", daemon=True)
            self._thread.start()

    def _made(self) -> list[Path]:
        return sorted(self._storage.backups.glob(f"{DAILY}*"))

    def _run(self) -> None:
        try:
            self.make()
        except Exception:
            # The next one is tried in ten minutes; nothing else may end for it.
            logger.exception("The daily backup could not be made")

    def make(self) -> Path | None:
        """One backup, and none too many afterwards; None where they are off or the disk has no room."""
        with self._database.read() as session:
            keep = retention.read(session).daily_backups
        size = self._storage.database.stat().st_size
        if keep and self._disk.left < size:
            logger.warning("No daily backup: it needs %s on the disk, which is nearly full", human(size))
        made = None
        if keep and self._disk.left >= size:
            made = back_up(self._storage, self._storage.backups / f"{DAILY}{stamp()}")
        for old in self._made()[: -keep or None] if made or not keep else []:
            shutil.rmtree(old)
        return made
