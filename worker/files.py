"""Files written whole or not at all, and checked by their sha256."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


class WrongBytes(Exception):
    """What came is not what was promised."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def holds(path: Path, size: int, sha256: str) -> bool:
    """Whether exactly these bytes are at `path`."""
    try:
        return path.stat().st_size == size and sha256_of(path) == sha256
    except FileNotFoundError:
        return False


class Part:
    """A file that arrives in pieces beside `target`. What came before a break is kept, and read again to go on."""

    def __init__(self, target: Path, size: int, sha256: str) -> None:
        self._target, self._wanted, self._sha256 = target, size, sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path = target.with_name(f".{target.name}.{sha256[:16]}.part")
        self._digest = hashlib.sha256()
        self.size = 0
        if self._path.exists() and self._path.stat().st_size <= size:
            with self._path.open("rb") as stream:
                self._digest = hashlib.file_digest(stream, "sha256")
            self.size = self._path.stat().st_size

    def append(self, chunks: Iterable[bytes], anew: bool) -> None:
        """Adds what comes; `anew` when it is the file from its first byte on."""
        if anew or not self.size:
            self._digest, self.size = hashlib.sha256(), 0
        with self._path.open("ab" if self.size else "wb") as stream:
            for chunk in chunks:
                self._digest.update(chunk)
                stream.write(chunk)
                self.size += len(chunk)
            stream.flush()
            os.fsync(stream.fileno())

    def finish(self) -> None:
        """Puts it in its place; raises `WrongBytes` and leaves nothing when the hash differs."""
        if self._digest.hexdigest() != self._sha256:
            self._path.unlink(missing_ok=True)
            raise WrongBytes(f"{self._target.name} has another sha256 than was promised")
        self._path.replace(self._target)


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes at `target`, without a second copy where the file system allows."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Writes beside `path` and renames, readable by this user alone."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(value, stream, allow_nan=False)
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file; None where it is missing or not one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
