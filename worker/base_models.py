"""Where a base model lies on this machine: built in, in a folder of a model root, or brought from the Hub."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.schemas import TINY_MODEL
from worker.faults import PreparationFailed

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class BaseModel:
    """`revision` is the commit of a model from the Hub."""

    path: Path
    revision: str | None = None


Download = Callable[[str], BaseModel]


def resolve(model: str, settings: Settings, download: Download) -> BaseModel:
    """The folder of a base model; raises `PreparationFailed` with what to place where. `download` takes a Hub id."""
    work = settings.work_path.absolute()
    if model == TINY_MODEL:
        # The trainer builds it there on its first use.
        return BaseModel(work / "models" / TINY_MODEL)
    roots = [work / "models", *(root.absolute() for root in settings.model_root_paths)]
    found = find_local(model, roots)
    if found is not None:
        check_complete(found)
        return BaseModel(found)
    if not HUB_ID.fullmatch(model):
        raise _missing(model, roots)
    if not settings.hub:
        raise PreparationFailed(
            "hub_off",
            f"The base model {model!r} is not on this machine, and the control center may not use the Hub.",
            f"Place its files in {roots[-1] / model}, or start the control center with --hub.",
        )
    found_on_hub = download(model)
    check_complete(found_on_hub.path)
    return found_on_hub


def find_local(model: str, roots: list[Path]) -> Path | None:
    """The folder that a name or a path stands for, if it lies inside one of the roots."""
    for root in roots:
        place = (root / model).resolve()
        if place != root.resolve() and place.is_relative_to(root.resolve()) and place.is_dir():
            return place
    return None


def check_complete(folder: Path) -> None:
    """Raises `PreparationFailed` naming every file that is missing from a model folder."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    missing += missing_weights(folder)
    if missing:
        raise PreparationFailed(
            "model_incomplete",
            f"The base model in {folder} is incomplete: {', '.join(missing[:5])} missing.",
            "Copy the missing files there, or fetch the model again.",
        )


def missing_weights(folder: Path) -> list[str]:
    """The weight files that are not there: those the index names, else `model.safetensors`."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [] if any(folder.glob("*.safetensors")) else ["model.safetensors"]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        return [f"{index.name} (unreadable)"]
    return [name for name in names if not (folder / name).is_file()]


def _missing(model: str, roots: list[Path]) -> PreparationFailed:
    return PreparationFailed(
        "model_missing",
        f"There is no base model named {model!r} on this machine.",
        f"Place its folder in one of: {', '.join(str(root) for root in roots)}; or name a Hub id such as owner/name.",
    )
