"""Looks at a base model's directory before anything heavy is imported: what is missing is named at once."""

import hashlib
import json
from pathlib import Path
from typing import Any

from worker.trainer.faults import JobFailed

MODEL_TYPE = "qwen3_vl"
NEEDED = ("config.json", "tokenizer.json", "preprocessor_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HASHED_WHOLE = 64 * 1024 * 1024


def check_base_model(folder: Path, name: str) -> None:
    """Raises `JobFailed` with every missing file named, unless the directory can be loaded."""
    if not folder.is_dir():
        raise JobFailed(
            "model_missing",
            f"The base model {name} is not on this machine: {folder} is not a directory.",
            "Download the model into a model directory of this machine, or choose another base model.",
        )
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in TEMPLATES):
        missing.append("chat_template.jinja")
    missing += missing_weights(folder)
    if missing:
        raise JobFailed(
            "model_incomplete",
            f"The base model {name} in {folder} is incomplete; missing: {', '.join(missing)}.",
            "Download the missing files again; an interrupted download is the usual cause.",
        )
    kind = read_json(folder / "config.json", name).get("model_type")
    if kind != MODEL_TYPE:
        raise JobFailed(
            "model_unsupported",
            f"The base model {name} is of type {kind!r}; only {MODEL_TYPE!r} can be trained.",
            "Choose a Qwen3-VL model, for instance Qwen/Qwen3-VL-8B-Instruct.",
        )


def missing_weights(folder: Path) -> list[str]:
    """Names of weight files that the folder lacks; a file shorter than its header says counts as missing."""
    return [name for name in shard_names(folder) if not is_whole(folder / name)]


def shard_names(folder: Path) -> list[str]:
    """Names of the weight files that should be there."""
    if not (folder / INDEX).is_file():
        return [SINGLE]
    index = read_json(folder / INDEX, folder.name)
    return sorted(set(index.get("weight_map", {}).values()))


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has all the bytes that its header promises."""
    if not path.is_file() or path.stat().st_size < 8:
        return False
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return False
        header: dict[str, Any] = json.loads(file.read(length))
    end = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
    return path.stat().st_size >= 8 + length + int(end)


def identity_of(folder: Path) -> str:
    """A hash that tells base models apart: configuration, tokenizer, and the weights' index.

    Small weight files are hashed whole; of large ones the header (names, shapes, types) and the size.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", INDEX):
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    for name in shard_names(folder):
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
