"""Looks at a base model's directory before anything heavy is imported: what is missing is named at once."""

import hashlib
import json
from pathlib import Path
from typing import Any

from app.model_folder import INDEX, missing_parts, shard_names
from worker.trainer.faults import JobFailed

HASHED_WHOLE = 64 * 1024 * 1024


def check_base_model(folder: Path, name: str) -> None:
    """Raises `JobFailed` with every missing file named, unless the directory can be loaded."""
    if not folder.is_dir():
        raise JobFailed(
            "model_missing",
            f"The base model {name} is not on this machine: {folder} is not a directory.",
            "Download the model into a model directory of this machine, or choose another base model.",
        )
    if missing := missing_parts(folder):
        raise JobFailed(
            "model_incomplete",
            f"The base model {name} in {folder} cannot be used: {', '.join(missing)}.",
            "Download what is missing again; an interrupted download is the usual cause. Only Qwen3-VL can be trained.",
        )


def identity_of(folder: Path) -> str:
    """A hash that tells base models apart: configuration, tokenizer, and the weights' index.

    Small weight files are hashed whole; of large ones the header (names, shapes, types) and the size.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", INDEX):
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    for name in shard_names(folder) or ():
        digest.update(f"{name} {(folder / name).stat().st_size}".encode() + _head(folder / name))
    return digest.hexdigest()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        if path.stat().st_size <= HASHED_WHOLE:
            return file.read()
        return file.read(int.from_bytes(file.read(8), "little"))


def read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise JobFailed(
            "model_incomplete",
            f"{path.name} of the base model {name} is not readable JSON: {error}.",
            "Download that file again.",
        ) from None
    return value if isinstance(value, dict) else {}
