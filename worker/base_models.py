"""Where a base model lies on this machine: built in, under a model root, or from the control center or the Hub."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.model_folder import missing_parts
from app.schemas import TINY_MODEL
from worker.faults import PreparationFailed

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class BaseModel:
    """`revision` is the commit of a model from the Hub."""

    path: Path
    revision: str | None = None


Download = Callable[[str], BaseModel]
Fetch = Callable[[], Path | None]


def resolve(model: str, settings: Settings, download: Download, fetch: Fetch = lambda: None) -> BaseModel:
    """The folder of a base model; raises `PreparationFailed` with what to place where.

    What is not on this machine is fetched from the control center (`fetch`; None where it has no such folder), else
    from the Hub (`download` takes its id).
    """
    work = settings.work_path.absolute()
    if model == TINY_MODEL:
        # The trainer builds it there on its first use.
        return BaseModel(work / "models" / TINY_MODEL)
    roots = [work / "models", *(root.absolute() for root in settings.model_root_paths)]
    found = find_local(model, roots)
    if found is not None:
        check_complete(found)
        return BaseModel(found)
    fetched = fetch()
    if fetched is not None:
        check_complete(fetched)
        return BaseModel(fetched)
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
    """Raises `PreparationFailed` naming everything that is missing from a model folder."""
    if missing := missing_parts(folder):
        raise PreparationFailed(
            "model_incomplete",
            f"The base model in {folder} cannot be used: {', '.join(missing[:5])}.",
            "Copy what is missing there, or fetch the model again; only Qwen3-VL can be trained.",
        )


def _missing(model: str, roots: list[Path]) -> PreparationFailed:
    return PreparationFailed(
        "model_missing",
        f"There is no base model named {model!r} on this machine.",
        f"Place its folder in one of: {', '.join(str(root) for root in roots)}; or name a Hub id such as owner/name.",
    )
