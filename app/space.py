"""Room on the disk of the data directory: what is left above the floor, and what to do where that is not enough."""

import errno
import shutil
from pathlib import Path
from typing import Any

from app.errors import DiskFull

FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
FULL_NAMES = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
LEAST = 4 * 2**20  # below that every write may fail, whatever the floor
WHAT_TO_DO = "empty the trash, delete checkpoints and datasets that nobody needs, or free some space there"


def human(count: int) -> str:
    """Bytes of a file as people read them: 174 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def is_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, told by the system or by SQLite."""
    if isinstance(error, OSError):
        return error.errno in FULL_NUMBERS
    original: Any = getattr(error, "orig", error)
    return isinstance(error, DiskFull) or getattr(original, "sqlite_errorname", "") in FULL_NAMES


class Disk:
    """The disk of one data directory. Sizes in bytes; `floor` is what new uploads and jobs must leave free."""

    def __init__(self, folder: Path, floor: int, worker_folder: Path) -> None:
        self.folder, self.floor = folder, floor
        self._worker_folder = worker_folder
        self.was_full = False  # a write failed since the sweeper last looked after the leases

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    @property
    def left(self) -> int:
        """What new things may take; negative below the floor."""
        return self.free - self.floor

    @property
    def shared_with_worker(self) -> bool:
        """Whether a worker of this machine keeps its own copies on the same disk."""
        place = self._worker_folder
        return place.is_dir() and place.stat().st_dev == self.folder.stat().st_dev

    def require(self, needed: int, what: str) -> None:
        """Raises `DiskFull` where `what` would leave less free than the floor."""
        free = self.free
        if free - needed < self.floor:
            raise DiskFull(
                f"The disk has no room for {what}: {human(free)} are free in {self.folder}, "
                f"{human(needed)} are needed and {human(self.floor)} must stay free; {WHAT_TO_DO}."
            )

    def full_message(self) -> str:
        return f"The disk is full: {human(self.free)} are free in {self.folder}; {WHAT_TO_DO}, then send it again."

    def warning(self) -> str | None:
        """A sentence for every page while the disk is low."""
        free, least = self.free, max(self.floor, LEAST)
        if free >= least:
            return None
        return (
            f"{human(free)} are free in {self.folder}, less than the {human(least)} that should be: "
            f"uploads are refused and queued jobs wait. To go on, {WHAT_TO_DO}."
        )
