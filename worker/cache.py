"""Datasets and base models that this machine keeps by their hash, shared by its lanes and bounded in size.

`datasets/SHA256.jsonl` and `fetched-models/SHA256/` hold what was fetched. `cache/SHA256.json` says which files were
verified; `.lock` is shared by the jobs that use it, and its time is that of its last use.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.files import holds, read_json, write_json
from worker.messages import FileSpec

log = logging.getLogger("worker.cache")

DATASETS, MODELS, MARKS = "datasets", "fetched-models", "cache"
LOOK_S = 0.2
STALE_PART_S = 24 * 3600.0


class Cache:
    """What one job holds of the machine's cache: nothing of it is thrown away until `close`."""

    def __init__(self, work: Path, limit: int) -> None:
        self._work, self._limit = work, limit
        self._held: dict[str, int] = {}

    def dataset(self, sha256: str) -> Path:
        return self._work / DATASETS / f"{sha256}.jsonl"

    def model(self, files: Sequence[FileSpec]) -> Path:
        """The folder of a base model, named by all of its files."""
        listed = "".join(f"{one.sha256} {one.path}\\n" for one in sorted(files, key=lambda file: file.path))
        return self._work / MODELS / hashlib.sha256(listed.encode()).hexdigest()

    def hold(self, entry: Path) -> None:
        """Keeps a dataset's file or a model's folder for this job, and notes that it is used."""
        mark = self._mark(entry)
        if mark.name not in self._held:
            self._held[mark.name] = _open(mark, ".lock")
            fcntl.flock(self._held[mark.name], fcntl.LOCK_SH)
        os.utime(self._held[mark.name])

    def has(self, entry: Path, file: FileSpec, target: Path) -> bool:
        """Whether these bytes are at `target`; they are read once, and again only when the file changes."""
        mark = self._mark(entry)
        known = read_json(mark) or {}
        now = _stamp(target)
        if now is not None and known.get(file.path) == [file.sha256, *now]:
            return True
        if not holds(target, file.size, file.sha256):
            return False
        write_json(mark, known | {file.path: [file.sha256, *(_stamp(target) or ())]})
        return True

    @contextmanager
    def fetching(self, entry: Path, check: Callable[[], None]) -> Iterator[None]:
        """One lane at a time fetches an entry; `check` is called while another does, and calls it off by raising."""
        descriptor = _open(self._mark(entry), ".fetch")
        try:
            while not _try_lock(descriptor):
                check()
                time.sleep(LOOK_S)
            yield
        finally:
            os.close(descriptor)

    def make_room(self, size: int) -> None:
        """Throws away what was used least recently, and by no running job, until `size` more bytes fit the limit."""
        self._drop_stale_parts()
        # Tokens that lie beside the datasets are bounded by the trainer itself.
        entries = [*(self._work / DATASETS).glob("[!.]*.jsonl"), *(self._work / MODELS).glob("[!.]*")]
        total = sum(_size(entry) for entry in entries)
        for entry in sorted(entries, key=self._last_used):
            if total + size <= self._limit:
                return
            total -= self._drop(entry)
        if total + size > self._limit:
            log.info("The cache holds %.1f GB more than its limit: running jobs need them.", (total + size) / 1e9)

    def close(self) -> None:
        """Lets everything go; it stays until its room is needed."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _drop(self, entry: Path) -> int:
        """Removes an entry unless a job uses it; the bytes that became free."""
        size = _size(entry)
        descriptor = _open(self._mark(entry), ".lock")
        try:
            if not _try_lock(descriptor):
                return 0
            self._mark(entry).unlink(missing_ok=True)
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        log.info("%s was thrown out of the cache to make room.", entry.name)
        return size

    def _drop_stale_parts(self) -> None:
        for part in [*(self._work / DATASETS).glob(".*.part"), *(self._work / MODELS).glob("*/.*.part")]:
            with suppress(FileNotFoundError):  # another lane of this machine may be done with it by now
                if part.stat().st_mtime < time.time() - STALE_PART_S:
                    part.unlink()

    def _last_used(self, entry: Path) -> float:
        lock = self._mark(entry).with_suffix(".lock")
        return (lock if lock.exists() else entry).stat().st_mtime

    def _mark(self, entry: Path) -> Path:
        folder = self._work / MARKS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"{entry.stem}.json"


def _open(mark: Path, suffix: str) -> int:
    # Never removed: a lock on a file that is gone would lock nothing.
    return os.open(mark.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _size(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(map(_bytes_of, files))


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # taken away by another lane meanwhile
        return 0
