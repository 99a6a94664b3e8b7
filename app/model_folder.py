"""A base model's folder, looked at without loading anything: the one place that knows what has to be in it."""

import json
from pathlib import Path
from typing import Any

MODEL_TYPE = "qwen3_vl"
NEEDED = ("config.json", "tokenizer.json", "preprocessor_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What a model is made of; weights as safetensors only, since other formats can carry code.
SUFFIXES = (".safetensors", ".json", ".jinja", ".txt")
LONGEST_HEADER = 100 << 20


def missing_parts(folder: Path) -> list[str]:
    """What a Qwen3-VL folder lacks, in words; empty where it can be loaded."""
    missing = [f"no {name}" for name in NEEDED if not (folder / name).is_file()]
    if not _has_template(folder):
        missing.append("no chat template")
    return missing + _wrong_type(folder) + missing_weights(folder)


def has_tokenizer(folder: Path) -> bool:
    """Whether texts can be made into tokens with it, weights or not."""
    return (folder / "tokenizer.json").is_file() and _has_template(folder)


def _has_template(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TEMPLATES)


def _wrong_type(folder: Path) -> list[str]:
    if not (folder / "config.json").is_file():
        return []
    config = _read(folder / "config.json")
    if config is None:
        return ["config.json is not readable"]
    kind = config.get("model_type")
    return [] if kind == MODEL_TYPE else [f"its model_type is {kind!r}, not {MODEL_TYPE!r}"]


def missing_weights(folder: Path) -> list[str]:
    """The weight files that are not there whole: those the index names, else `model.safetensors`."""
    names = shard_names(folder)
    if names is None:
        return [f"{INDEX} is not readable"]
    found = []
    for name in names:
        if not (folder / name).is_file():
            found.append(f"no {name}")
        elif not is_whole(folder / name):
            found.append(f"{name} is cut short")
    return found


def shard_names(folder: Path) -> list[str] | None:
    """Names of the weight files that should be there; None where the index cannot be read."""
    if not (folder / INDEX).is_file():
        return [SINGLE]
    shards = (_read(folder / INDEX) or {}).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        return None
    return sorted(set(shards.values()))


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has all the bytes that its header promises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            return False
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            end = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
    return size >= 8 + length + int(end)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    return value if isinstance(value, dict) else None
