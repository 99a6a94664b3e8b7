"""Base models of the control center for nodes that lack them: their files with hashes, read once."""

import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import Any

from app.errors import AppError, NotFound
from app.model_folder import SUFFIXES
from app.storage import existing

log = logging.getLogger(__name__)

# Reading a large model takes a minute; a small one is answered at once.
PATIENCE_S = 5.0

Listing = list[dict[str, Any]]


class StillReading(AppError):
    """503, so that a worker asks again."""

    status_code, code = 503, "model_being_read"
    message = "The control center still reads the files of this base model; ask again."


class ModelFiles:
    """Hashes of the model folders that a worker asked for. `memory` is the file that keeps them over a restart."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, str] = _read(memory)
        self._reading: dict[Path, threading.Thread] = {}
        self._lock = threading.Lock()

    def listing(self, folder: Path) -> Listing:
        """{"path", "size", "sha256"} of every file of the model; raises `StillReading` while they are hashed."""
        files = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES and path.is_file()]
        if any(_key(path) not in self._known for path in files):
            self._read_in_background(folder, files)
        try:
            return [
                {"path": path.name, "size": path.stat().st_size, "sha256": self._known[_key(path)]} for path in files
            ]
        except KeyError:
            raise StillReading from None

    def file(self, folder: Path, name: str) -> Path:
        """The place of a file that the listing names."""
        if name != Path(name).name or Path(name).suffix not in SUFFIXES:
            raise NotFound(f"{name!r} is not a file of this base model.")
        return existing(folder / name)

    def _read_in_background(self, folder: Path, files: list[Path]) -> None:
        with self._lock:
            thread = self._reading.get(folder)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._hash, args=(files,), name="model-files", daemon=True)
                self._reading[folder] = thread
                thread.start()
        thread.join(PATIENCE_S)

    def _hash(self, files: list[Path]) -> None:
        for path in files:
            key = _key(path)
            if key not in self._known:
                with path.open("rb") as stream:
                    self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        part = self._memory.with_suffix(".part")
        try:
            part.write_text(json.dumps(self._known), encoding="utf-8")
            part.replace(self._memory)
        except OSError as error:
            # They are hashed once more after a restart.
            log.warning("The hashes of base models cannot be kept: %s", error)


def _key(path: Path) -> str:
    """A file as it is now: one that changes is read again."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _read(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
