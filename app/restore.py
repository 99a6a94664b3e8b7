"""Restoring a backup into a data directory, and saying which artefacts of it are missing or altered there."""

import contextlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.backup import DATABASE, FILES, MANIFEST, artefacts, stamp
from app.errors import Conflict, DiskFull, NotFound, WrongInput
from app.processes import UP_LOCK, WEB_LOCK, take_lock
from app.space import human
from app.storage import Storage, inside, sha256_of, sync_folder

BESIDE = ("", "-wal", "-shm")  # the database and what SQLite keeps beside it


@dataclass
class Report:
    """Paths below the data directory."""

    present: int = 0
    missing: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)


def restore(backup: Path, storage: Storage, force: bool = False) -> Report:
    """Put the backup's database (and, of a full one, its files) into the data directory and verify the manifest.

    What breaks off leaves an empty directory empty, and a used one its database. Raises `Conflict` for a directory in
    use, or not empty without `force`, which puts the database found there aside; `DiskFull` where room is lacking.
    """
    with _locked(storage.root):
        was_empty = not _contents(storage.root)
        if not force and not was_empty:
            raise Conflict(f"{storage.root} is not empty: use --force, or name another --data-dir.")
        try:
            with _opened(backup, storage.root) as folder:
                return _restore(folder, backup, storage)
        except BaseException:
            for one in _contents(storage.root) if was_empty else ():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            raise


def _contents(root: Path) -> list[Path]:
    return [one for one in root.iterdir() if not one.name.startswith(".")]


def _restore(folder: Path, backup: Path, storage: Storage) -> Report:
    _check(folder, backup)
    manifest = _manifest(folder, storage)
    sizes = [(folder / DATABASE).stat().st_size]
    sizes += [one["size"] for one in manifest if (folder / FILES / one["path"]).is_file()]
    _require(storage.root, sum(sizes))
    storage.prepare()
    _bring_back(manifest, folder / FILES, storage.root)
    # Last, so that a database never speaks of files that were still to come.
    _put_aside(storage)
    _put_database(folder / DATABASE, storage)
    return _verify(manifest, storage.root)


def _require(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DiskFull(f"{root} has {human(free)} free and the backup takes {human(needed)} there: free some space.")


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Nothing else may serve the directory meanwhile."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        for name in (UP_LOCK, WEB_LOCK):
            lock = take_lock(root / name)
            if lock is None:
                raise Conflict(f"{root} is in use: stop the control center there first.")
            held.callback(os.close, lock)
        yield


@contextlib.contextmanager
def _opened(backup: Path, root: Path) -> Iterator[Path]:
    """The backup as a folder: itself, a tar unpacked, or a folder made around a single database."""
    if backup.is_dir():
        yield backup
        return
    if not backup.is_file():
        raise NotFound(f"There is no backup at {backup}.")
    _require(root, backup.stat().st_size)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=root) as name:
        if tarfile.is_tarfile(backup):
            with tarfile.open(backup) as archive:
                archive.extractall(name, filter="data")
        else:
            shutil.copyfile(backup, Path(name) / DATABASE)
        yield Path(name)


def _check(folder: Path, backup: Path) -> None:
    """Raises `WrongInput` for what is not the whole database of a control center."""
    if not (folder / DATABASE).is_file():
        raise WrongInput(f"{backup} is no backup: it has no {DATABASE}.")
    connection = sqlite3.connect(f"file:{folder / DATABASE}?mode=ro&immutable=1", uri=True)
    try:
        (word,) = connection.execute("PRAGMA quick_check").fetchone()
        connection.execute("SELECT 1 FROM job LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise WrongInput(f"The database of {backup} cannot be read: {error}.") from None
    finally:
        connection.close()
    if word != "ok":
        raise WrongInput(f"The database of {backup} is damaged: {word}.")


def _manifest(folder: Path, storage: Storage) -> list[dict[str, Any]]:
    """The artefacts of the backup; those its database speaks of where it is a database alone."""
    if not (folder / MANIFEST).is_file():
        return list(artefacts(folder / DATABASE, storage))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if sha256_of(folder / DATABASE) != manifest["database"]["sha256"]:
        raise WrongInput(f"{folder / DATABASE} is not the file that {MANIFEST} names: it was altered.")
    named: list[dict[str, Any]] = manifest["artefacts"]
    return named


def _put_aside(storage: Storage) -> None:
    if not storage.database.exists():
        return
    aside = storage.backups / f"replaced-{stamp()}"
    aside.mkdir(mode=0o700)
    for ending in BESIDE:
        place = storage.database.with_name(storage.database.name + ending)
        if place.exists():
            place.rename(aside / (DATABASE + ending))


def _put_database(source: Path, storage: Storage) -> None:
    part = storage.database.with_suffix(".part")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(storage.database)
    sync_folder(storage.root)


def _bring_back(manifest: list[dict[str, Any]], files: Path, root: Path) -> None:
    """What the backup holds and is not there."""
    for one in manifest:
        place, kept = inside(root, one["path"]), inside(files, one["path"])
        if kept.is_file() and not _is(place, one):
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = place.with_name(f".{place.name}.part")
            shutil.copyfile(kept, part)
            part.replace(place)


def _verify(manifest: list[dict[str, Any]], root: Path) -> Report:
    report = Report()
    for one in manifest:
        place = inside(root, one["path"])
        if not place.is_file():
            report.missing.append(one["path"])
        elif not _is(place, one):
            report.altered.append(one["path"])
        else:
            report.present += 1
    return report


def _is(place: Path, one: dict[str, Any]) -> bool:
    return place.is_file() and place.stat().st_size == one["size"] and sha256_of(place) == one["sha256"]
