"""One record as a page: raw, normalised, rendered, every token with its part, and the way to the next one."""

from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, field_validator
from sqlmodel import Session

from app.db import DatabaseDep
from app.errors import WrongInput
from app.routes import pages_data as data
from app.routes.params import ModelsDep, StorageDep
from app.routes.record_filter import Filter, Search, hits
from app.schemas import DEFAULT_SYSTEM_PROMPT, TrainingConfig
from app.services import datasets, records, search
from app.services.base_models import BaseModels
from app.services.raw_text import indented
from app.storage import Storage, existing
from app.templating import render

router = APIRouter(prefix="/datasets")

MOST_TOKENS = 4000  # shown at once, unless all are asked for
TOKEN_WORDS = {"target": "trained", "context": "context", "image": "image", "cut": "cut off"}


class View(Filter):
    """How a record is looked at, and among which."""

    model: str = ""
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    max_length: int = Field(TrainingConfig().max_length, ge=16, le=262_144)
    all: bool = False
    end: bool = False  # there was no further record in that direction

    @field_validator("system_prompt")
    @classmethod
    def _as_typed(cls, text: str) -> str:
        return text.replace("\r\n", "\n")


AskedView = Annotated[View, Query()]


@router.get("/{dataset_id}/_search")
def search_records(
    request: Request, database: DatabaseDep, storage: StorageDep, dataset_id: int, asked: Annotated[Search, Query()]
) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_search.html", **hits(session, storage, dataset_id, asked))


@router.get("/{dataset_id}/records/{line}")
def show_record(
    request: Request,
    database: DatabaseDep,
    storage: StorageDep,
    models: ModelsDep,
    dataset_id: int,
    line: int,
    asked: AskedView,
) -> HTMLResponse:
    with database.read() as session:
        dataset = datasets.view(datasets.get(session, dataset_id))
        shown = _shown(session, storage, models, dataset_id, line, asked)
        context = {"dataset": dataset, "asked": asked, "line": line, **shown, **data.shell(session)}
        place = search.position(session, dataset_id, asked.wanted, line)
    context |= {"token_words": TOKEN_WORDS, "place": place}
    names = [("", "as the server chooses"), *((name, name) for name in models.names())]
    return render(request, "datasets/record.html", models=names, **context)


def _shown(
    session: Session, storage: Storage, models: BaseModels, dataset_id: int, line: int, asked: View
) -> dict[str, Any]:
    """The record; or, where a model's tokenizer is not here, why, and the record without tokens."""
    path = existing(datasets.lines_path(storage, datasets.get(session, dataset_id)))
    problem = None
    try:
        folder = models.tokenizer_folder(asked.model or None, storage.root)
    except WrongInput as error:
        problem, folder = error.message, models.tokenizer_folder(None, storage.root)
    images_at = f"/api/datasets/{dataset_id}/records/{line}/images"
    record = records.show(path, line, folder, asked.system_prompt, asked.max_length, images_at)
    tokens = [] if problem else record["tokens"]
    parts = token_parts(tokens if asked.all else tokens[:MOST_TOKENS])
    counts = {role: sum(token["role"] == role for token in tokens) for role in TOKEN_WORDS}
    return {
        "record": record | {"raw": indented(record["raw"]) if _is_json(record) else record["raw"]},
        "problem": problem,
        "parts": parts,
        "counts": counts,
        "num_tokens": len(tokens),
        "left_out": 0 if asked.all else max(0, len(tokens) - MOST_TOKENS),
        "findings": datasets.findings_of_line(session, dataset_id, line),
    }


def _is_json(record: dict[str, Any]) -> bool:
    return bool(record["raw"].startswith(("{", "[")))


def token_parts(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of one role together; the same token many times over, as in an image, stands once with its count."""
    parts: list[dict[str, Any]] = []
    for role, group in groupby(enumerate(tokens), key=lambda pair: str(pair[1]["role"])):
        shown = []
        for _, same in groupby(group, key=lambda pair: pair[1]["id"] if pair[1]["role"] == "image" else pair[0]):
            equal = list(same)
            shown.append({"at": equal[0][0], "times": len(equal), **equal[0][1]})
        parts.append({"role": role, "tokens": shown, "first": role not in {part["role"] for part in parts}})
    return parts


@router.get("/{dataset_id}/records/{line}/next")
def go_to_next(
    database: DatabaseDep, storage: StorageDep, dataset_id: int, line: int, asked: AskedView
) -> RedirectResponse:
    return _go(database, storage, dataset_id, line, asked, forward=True)


@router.get("/{dataset_id}/records/{line}/previous")
def go_to_previous(
    database: DatabaseDep, storage: StorageDep, dataset_id: int, line: int, asked: AskedView
) -> RedirectResponse:
    return _go(database, storage, dataset_id, line, asked, forward=False)


def _go(
    database: DatabaseDep, storage: StorageDep, dataset_id: int, line: int, asked: View, forward: bool
) -> RedirectResponse:
    """To the neighbour within the filter; back to the same record, which says so, where there is none."""
    with database.read() as session:
        path = existing(datasets.lines_path(storage, datasets.get(session, dataset_id)))
        lines = search.lines_with(session, dataset_id, asked.wanted, line, forward)
    found = search.neighbour(path, asked.q, lines, line, forward)
    end = "" if found else ("&" if asked.query else "?") + "end=true"
    return RedirectResponse(f"/datasets/{dataset_id}/records/{found or line}{asked.query}{end}", 303)
