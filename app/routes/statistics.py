"""What a dataset holds, in numbers: records, tokens as the trainer makes them, lengths, duplicates, time and memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from sqlmodel import Session

from app.config import Settings
from app.db import Database
from app.errors import Conflict, WrongInput
from app.schemas import TINY_MODEL, TrainingConfig, read_config
from app.services import datasets, estimates, recipes
from app.services.base_models import BaseModels
from app.storage import Storage, existing
from app.token_counts import Key, TokenCounts

router = APIRouter(prefix="/api/datasets/{dataset_id}")
PATIENCE_S = 10.0
UNCOUNTED = {"tokens": None, "lengths": None, "target_share": None}


@dataclass(frozen=True)
class Chosen:
    """What the numbers are for; `own` are settings that go before those of the recipe."""

    model: str | None = None
    recipe: str | None = None  # None: the one of --default-recipe; empty: none
    own: dict[str, Any] = field(default_factory=dict)

    def settings(self, session: Session, usual: str | None) -> tuple[str | None, TrainingConfig]:
        """The recipe by its name, and the settings; raises `WrongInput`."""
        name = recipes.default_name(session, usual) if self.recipe is None else self.recipe
        kept = recipes.config_of(session, name) if name else {}
        return name or None, read_config(kept | self.own)


@router.get("/statistics")
async def show_statistics(
    request: Request,
    dataset_id: int,
    model: str | None = None,
    recipe: str | None = None,
    system_prompt: str | None = None,
    max_length: Annotated[int | None, Query(ge=16, le=262_144)] = None,
) -> JSONResponse:
    """200 with everything; 202 with `tokens` null while they are still counted: ask again."""
    own = {"system_prompt": system_prompt, "max_length": max_length}
    chosen = Chosen(model, recipe, {name: value for name, value in own.items() if value is not None})
    shown = await tell(request, dataset_id, chosen)
    return JSONResponse(shown, 202 if shown["tokens"] is None else 200)


async def tell(request: Request, dataset_id: int, chosen: Chosen) -> dict[str, Any]:
    """The numbers; `tokens` is None while they are still counted. Raises `WrongInput` and `Conflict`."""
    counts: TokenCounts = request.app.state.token_counts
    shown, key = await to_thread.run_sync(_begin, request, dataset_id, chosen)
    return shown | (await counts.get(key, PATIENCE_S) or UNCOUNTED)


def _begin(request: Request, dataset_id: int, chosen: Chosen) -> tuple[dict[str, Any], Key]:
    """What is known without the tokens, and what is to be counted."""
    state = request.app.state
    database: Database = state.database
    storage: Storage = state.storage
    models: BaseModels = state.base_models
    server: Settings = state.settings
    name = chosen.model or models.default or TINY_MODEL
    with database.read() as session:
        dataset = datasets.get(session, dataset_id)
        if dataset.state != "ready":
            raise Conflict(f"Dataset {dataset_id} is {dataset.state}; its numbers are known once it is ready.")
        folder, recipe, config = _settled(session, models, storage, chosen, server.default_recipe)
        estimate = estimates.estimate(session, models, [(dataset, 1.0)], name, config)
        lines = existing(datasets.lines_path(storage, dataset))
        content = (dataset.unpacked or {}).get("sha256") or dataset.sha256
        known, found = dataset.statistics or {}, dataset.findings or {}
    shown = {
        "dataset_id": dataset_id,
        "model": name,
        "recipe": recipe,
        "max_length": config.max_length,
        "num_records": dataset.num_records,
        "num_valid": dataset.num_valid,
        "turns": known.get("turns"),
        "images": {"number": known.get("images"), "tokens": known.get("image_tokens")},
        "languages": known.get("languages", {}),
        "duplicates": {"exact": found.get("exact_duplicate", 0), "near": found.get("near_duplicate", 0)},
        "estimate": estimate,
    }
    options = config.model_dump_json(include={"max_length", "system_prompt"})
    return shown, Key(str(lines), str(folder), options, content)


def _settled(
    session: Session, models: BaseModels, storage: Storage, chosen: Chosen, usual: str | None
) -> tuple[Path, str | None, TrainingConfig]:
    """Where the tokenizer lies, the recipe and the settings; raises `WrongInput` with all that is wrong at once."""
    folder, settings = None, None
    wrong: list[dict[str, str]] = []
    try:
        folder = models.tokenizer_folder(chosen.model, storage.root)
    except WrongInput as error:
        wrong += error.detail
    try:
        settings = chosen.settings(session, usual)
    except WrongInput as error:
        wrong += error.detail
    if folder is None or settings is None:
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong)
    return folder, *settings
