"""Where things lie in the data directory: safe paths, private modes, files that appear whole or not at all."""

import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from anyio import to_thread

from app.errors import NotFound, TooLarge, WrongInput

CHUNK = 1 << 20
PART = ".part-"
UNFINISHED_BACKUP_S = 24 * 3600.0


@dataclass(frozen=True)
class Received:
    """A file that was streamed to disk under a temporary name: `keep` puts it in its place, `drop` removes it."""

    temporary: Path
    size: int
    sha256: str

    def keep(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.replace(self.temporary, target)
        sync_folder(target.parent)

    def drop(self) -> None:
        self.temporary.unlink(missing_ok=True)


class Storage:
    """The folders of one control center."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir
        self.database = data_dir / "control.sqlite3"
        self.backups = data_dir / "backups"
        self.incoming = data_dir / "incoming"
        self.jobs = data_dir / "jobs"

    def prepare(self) -> None:
        """Make the folders, private, and sweep out what an interrupted upload left behind."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.backups, self.incoming, self.jobs):
            folder.mkdir(exist_ok=True, mode=0o700)
        for left in (*self.incoming.glob(f"{PART}*"), *self.root.glob(f"datasets/*/{PART}*"), *self._old_backups()):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _old_backups(self) -> Iterator[Path]:
        """What backups left that were cut off; one that is being made by a command now is younger."""
        oldest = time.time() - UNFINISHED_BACKUP_S
        for left in (*self.backups.glob(".*.part"), *self.backups.glob(".*.tmp")):
            if left.stat().st_mtime < oldest:
                yield left

    def dataset(self, sha256: str) -> Path:
        """The bytes as they came."""
        return self.root / "datasets" / sha256[:2] / f"{sha256}.jsonl"

    def unpacked(self, sha256: str) -> Path:
        """The same as lines, where they came as something else."""
        return self.dataset(sha256).with_suffix(".lines.jsonl")

    def changes(self, sha256: str) -> Path:
        """What a version changed of its parent, line by line."""
        return self.dataset(sha256).with_suffix(".changes.jsonl")

    def attempt(self, job_id: int, attempt: int) -> Path:
        return self.jobs / str(job_id) / f"attempt-{attempt}"

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of ours; one outside the data directory is a mistake of ours."""
        assert folder.resolve().is_relative_to(self.root.resolve())
        shutil.rmtree(folder, ignore_errors=True)

    async def receive(
        self, chunks: AsyncIterator[bytes], limit: int, check: Callable[[], None] = lambda: None
    ) -> Received:
        """Stream chunks to disk in constant memory, with sha256 and fsync; raises `TooLarge`, and what `check` raises.

        `check` is called for each megabyte.
        """
        writer = await to_thread.run_sync(PartWriter, self.incoming)
        try:
            async for chunk in chunks:
                if writer.size + len(chunk) > limit:
                    raise TooLarge(f"The file is larger than the limit of {limit:,} bytes.")
                if chunk and writer.add(chunk):
                    check()
                    await to_thread.run_sync(writer.flush)
            return await to_thread.run_sync(writer.finish)
        finally:
            writer.abandon()


class PartWriter:
    """Collects chunks into megabytes and writes them to a `.part-` file, hashing on the way."""

    def __init__(self, folder: Path) -> None:
        self._file = NamedTemporaryFile(dir=folder, prefix=PART, delete=False)  # noqa: SIM115 - outlives this call
        self._hash = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.size = 0
        self._done = False

    def add(self, chunk: bytes) -> bool:
        """Take a chunk; true when a flush is due."""
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        self.size += len(chunk)
        return self._waiting_size >= CHUNK

    def flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_size = [], 0
        self._hash.update(data)
        self._file.write(data)

    def finish(self) -> Received:
        self.flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._done = True
        return Received(Path(self._file.name), self.size, self._hash.hexdigest())

    def abandon(self) -> None:
        """Remove the file unless it was finished."""
        if not self._done:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def inside(base: Path, path: str) -> Path:
    """The place of a relative path under `base`; raises `WrongInput` for one that leads out of it."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path or "\\" in path:
        raise WrongInput(f"{path!r} is not a path inside the job.")
    place = base / pure
    if not place.resolve().is_relative_to(base.resolve()):
        raise WrongInput(f"{path!r} leads out of the job.")
    return place


def existing(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"The file {path.name} is not here any more.")
    return path


def plain_name(name: str, default: str) -> str:
    """A name a person gave, fit for pages and headers: no control characters, no folders, at most 200 characters."""
    kept = "".join(c for c in name.replace("\\", "/").rsplit("/", 1)[-1] if c.isprintable()).strip()
    return kept[:200] or default
