"""What a dataset holds, in numbers: records, tokens as the trainer makes them, lengths, duplicates, time and memory."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from app.db import Database, DatabaseDep
from app.errors import Conflict
from app.routes.params import ModelsDep, StorageDep
from app.schemas import DEFAULT_SYSTEM_PROMPT, TINY_MODEL, TrainingConfig
from app.services import datasets, estimates
from app.services.base_models import BaseModels
from app.storage import Storage, existing
from app.token_counts import Key, TokenCounts

router = APIRouter(prefix="/api/datasets/{dataset_id}")
PATIENCE_S = 10.0


@router.get("/statistics")
async def show_statistics(
    request: Request,
    database: DatabaseDep,
    storage: StorageDep,
    models: ModelsDep,
    dataset_id: int,
    model: str | None = None,
    system_prompt: str = DEFAULT_SYSTEM_PROMPT,
    max_length: Annotated[int, Query(ge=16, le=262_144)] = 2048,
) -> JSONResponse:
    """200 with everything; 202 with `tokens` null while they are still counted: ask again."""
    counts: TokenCounts = request.app.state.token_counts
    config = TrainingConfig(max_length=max_length, system_prompt=system_prompt)
    shown, key = await to_thread.run_sync(_begin, database, storage, models, dataset_id, model, config)
    counted = await counts.get(key, PATIENCE_S)
    nothing = {"tokens": None, "lengths": None, "target_share": None}
    return JSONResponse(shown | (nothing if counted is None else counted), 202 if counted is None else 200)


def _begin(
    database: Database, storage: Storage, models: BaseModels, dataset_id: int, model: str | None, config: TrainingConfig
) -> tuple[dict[str, Any], Key]:
    """What is known without the tokens, and what is to be counted."""
    folder = models.tokenizer_folder(model, storage.root)
    name = model or models.default or TINY_MODEL
    with database.read() as session:
        dataset = datasets.get(session, dataset_id)
        if dataset.state != "ready":
            raise Conflict(f"Dataset {dataset_id} is {dataset.state}; its numbers are known once it is ready.")
        estimate = estimates.estimate(session, models, [(dataset, 1.0)], name, config)
        lines = existing(datasets.lines_path(storage, dataset))
        known, found = dataset.statistics or {}, dataset.findings or {}
    shown = {
        "dataset_id": dataset_id,
        "model": name,
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
    return shown, (str(lines), str(folder), options)
