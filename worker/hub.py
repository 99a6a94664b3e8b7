"""Fetches a base model from the Hugging Face Hub in a process of its own, which can be ended at any time.

`python -m worker.hub REPOSITORY` prints JSON lines: {"done", "total"} in bytes about once a second, and last either
{"path", "revision"} or {"error": {"code", "message", "advice"}}. What was fetched is kept; the next try goes on.
"""

import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: the base of what its client raises
    GatedRepoError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionResolutionError,
)

# Weights as safetensors only: other formats can carry code.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
ANSWER_S = 10.0
PROGRESS_S = 1.0
SPARE_BYTES = 2 << 30

# A missing file or entry is an OSError there.
HUB_ERRORS = (HTTPError, RevisionResolutionError, OSError)

Fault = tuple[str, str, str]


def fetch(repository: str) -> dict[str, Any]:
    """The last line of the output: where the model lies and its commit, or why it is not there."""
    try:
        revision, total = _look_up(repository)
        fault = _no_room(repository, total)
        if fault is None:
            path = _download(repository, revision, total)
            return {"path": path, "revision": revision}
    except RepositoryNotFoundError as error:
        # A gated repository is a kind of one that is not found.
        fault = _gated(repository) if isinstance(error, GatedRepoError) else _unknown(repository)
    except HUB_ERRORS as error:
        local = _local(repository)
        if local is not None:
            return local
        fault = _unreachable(repository, error)
    code, message, advice = fault
    return {"error": {"code": code, "message": message, "advice": advice}}


def _look_up(repository: str) -> tuple[str, int]:
    """The newest commit, and the bytes of the files wanted from it."""
    info = HfApi().model_info(repository, files_metadata=True, timeout=ANSWER_S)
    suffixes = tuple(pattern.removeprefix("*") for pattern in PATTERNS)
    sizes = [file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(suffixes)]
    return str(info.sha), sum(sizes)


def _download(repository: str, revision: str, total: int) -> str:
    finished = threading.Event()
    watcher = threading.Thread(target=_report, args=(repository, total, finished), daemon=True)
    watcher.start()
    try:
        return str(snapshot_download(repository, revision=revision, allow_patterns=PATTERNS, etag_timeout=ANSWER_S))
    finally:
        finished.set()


def _report(repository: str, total: int, finished: threading.Event) -> None:
    while not finished.wait(PROGRESS_S):
        say({"done": min(total, _bytes_on_disk(repository)), "total": total})


def _bytes_on_disk(repository: str) -> int:
    blobs = _cache(repository) / "blobs"
    sizes = []
    for file in blobs.glob("*"):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:  # renamed when it was complete
            continue
    return sum(sizes)


def _cache(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _local(repository: str) -> dict[str, Any] | None:
    """A copy fetched earlier, for a machine that cannot reach the Hub now."""
    try:
        path = Path(str(snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True)))
    except HUB_ERRORS:
        return None
    return {"path": str(path), "revision": path.name}


def _no_room(repository: str, total: int) -> Fault | None:
    place = Path(constants.HF_HUB_CACHE)
    place.mkdir(parents=True, exist_ok=True)
    free, wanted = shutil.disk_usage(place).free, total - _bytes_on_disk(repository)
    if wanted <= 0 or free > wanted + SPARE_BYTES:
        return None
    return (
        "disk_full",
        f"{repository} needs {wanted / 1e9:.1f} GB more in {place}, and {free / 1e9:.1f} GB are free there.",
        "Free some space, or set HF_HOME to a larger disk and start the worker again.",
    )


def _unknown(repository: str) -> Fault:
    return (
        "model_missing",
        f"There is no base model {repository!r}, neither on this machine nor on the Hub.",
        "Check the name; for a private one set HF_TOKEN where the worker is started.",
    )


def _gated(repository: str) -> Fault:
    return (
        "model_gated",
        f"{repository} asks you to accept its terms first.",
        "Accept them on its page and set HF_TOKEN where the worker is started.",
    )


def _unreachable(repository: str, error: Exception) -> Fault:
    return (
        "model_missing",
        f"{repository} is not on this machine and the Hub cannot be reached ({type(error).__name__}).",
        "Place the model's folder in a model root, or see that the machine reaches huggingface.co.",
    )


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    say(fetch(sys.argv[1]))
