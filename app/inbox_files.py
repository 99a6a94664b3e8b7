"""Files of the inbox on disk: which may be taken, moves that overwrite nothing, papers that appear whole or not at all.

Symbolic links are never followed, and only regular files are opened.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from app.storage import PART, sync_folder

SIDECAR_ENDS = (".yaml", ".yml")
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
MANIFEST, REPORT = ".manifest.json", ".report.json"
PAPERS = (MANIFEST, REPORT, *SIDECAR_ENDS)
LARGEST_SIDECAR = 64 * 2**10
LONGEST_NAME = 200  # bytes, so that a number and the end of a paper's name still fit
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


@dataclass(frozen=True)
class Seen:
    """A name in the inbox as one look found it."""

    name: str
    size: int
    mtime_ns: int
    plain: bool = True

    @property
    def stamp(self) -> tuple[int, int]:
        return self.size, self.mtime_ns


@dataclass
class Standing:
    """The inbox as pages show it; `problem` is why nothing is taken now, in a sentence."""

    folder: Path
    problem: str | None = None


def is_data(name: str) -> bool:
    """Whether a name may be one of a dataset: not hidden, not half written, no sidecar."""
    if name.startswith(".") or name.lower().endswith((*UNFINISHED, *SIDECAR_ENDS)):
        return False
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False  # not UTF-8: no page and no row could name it


def look(path: Path) -> Seen | None:
    """What lies there, itself and not what it points to; None where nothing does."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Seen(path.name, found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode))


def scan(folder: Path) -> list[Seen]:
    """Everything in the folder that may be data, by name; folders are left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_data(entry.name) and not entry.is_dir(follow_symlinks=False)]
    return [seen for name in sorted(names) if (seen := look(folder / name)) is not None]


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading; `OSError` for a link, a pipe or a folder."""
    # Without O_NONBLOCK a pipe without a writer would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def sidecars_of(name: str) -> list[str]:
    """Names a sidecar may have, the one that wins first."""
    stem = name.rsplit(".", 1)[0]
    return [base + end for base in dict.fromkeys((name, stem)) for end in SIDECAR_ENDS]


def find_sidecar(folder: Path, name: str) -> Path | None:
    return next((folder / one for one in sidecars_of(name) if os.path.lexists(folder / one)), None)


def sidecar_stamp(folder: Path, name: str) -> Seen | None:
    path = find_sidecar(folder, name)
    return look(path) if path else None


def free_name(folder: Path, name: str, taken: Collection[str] = ()) -> str:
    """The name, or the name with a number, under which neither a file nor a paper lies in the folder."""
    stem, dot, end = name.rpartition(".") if "." in name[1:] else (name, "", "")
    while len((stem + dot + end).encode()) > LONGEST_NAME:
        stem, end = (stem[:-1], end) if stem else (stem, end[:-1])
    number = 1
    while True:
        tried = f"{stem}{dot}{end}" if number == 1 else f"{stem}-{number}{dot}{end}"
        if tried not in taken and not any(os.path.lexists(folder / f"{tried}{more}") for more in ("", *PAPERS)):
            return tried
        number += 1


def make_folder(folder: Path) -> None:
    """A folder of ours inside the inbox; `OSError` where somebody put a link there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, and the inbox follows none", str(folder))


def move(source: Path, target: Path) -> None:
    """Rename without overwriting (`FileExistsError`); one that broke off half-way is finished."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samestat(source.lstat(), target.lstat()):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _rename(source, target)
        return
    os.unlink(source)
    sync_folder(target.parent)


def _rename(source: Path, target: Path) -> None:
    """For disks without hard links; the inbox has one watcher, so nobody of ours comes in between."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "exists already", str(target))
    os.rename(source, target)
    sync_folder(target.parent)


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Write a paper of ours under its name once all of it is on disk."""
    temporary = NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=PART, delete=False)  # noqa: SIM115
    try:
        with temporary:
            temporary.writelines(pieces)
            temporary.flush()
            os.fsync(temporary.fileno())
        os.replace(temporary.name, path)
    except BaseException:
        Path(temporary.name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_parts(folder: Path) -> None:
    """Remove what a write that was killed has left."""
    for left in folder.glob(f"{PART}*"):
        left.unlink(missing_ok=True)
