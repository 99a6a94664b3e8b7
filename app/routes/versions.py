"""Versions of a dataset by REST: made by leaving out and repairing, listed, compared line by line."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from app import versioning
from app.db import Database, DatabaseDep
from app.errors import WrongInput
from app.routes.params import Cursor, JsonBody, Limit, StorageDep
from app.schemas import field_errors
from app.services import datasets, versions
from app.versioning import NewVersion

router = APIRouter(prefix="/api/datasets/{dataset_id}")


@router.post("/versions")
async def make_version(request: Request, database: DatabaseDep, dataset_id: int, body: JsonBody) -> JSONResponse:
    """A new dataset without the excluded lines and with the others repaired; it is checked as an upload is."""
    made = await versioning.begin(request.app.state, dataset_id, _read(body))
    view = await to_thread.run_sync(_view, database, made.id)
    return JSONResponse(view | ({"duplicate": True} if made.is_known else {}), 200 if made.is_known else 202)


def _read(body: Any) -> NewVersion:
    try:
        return NewVersion.model_validate(body)
    except ValidationError as error:
        wrong = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong) from None


def _view(database: Database, dataset_id: int) -> dict[str, Any]:
    with database.read() as session:
        return datasets.view(datasets.get(session, dataset_id))


@router.get("/versions")
def list_versions(database: DatabaseDep, dataset_id: int) -> dict[str, Any]:
    """All versions of the dataset, oldest first, each with its parent, what was done, and the counts."""
    with database.read() as session:
        return {"items": [versions.view(one) for one in versions.family(session, dataset_id)], "next": None}


@router.get("/diff")
def show_diff(
    database: DatabaseDep,
    storage: StorageDep,
    dataset_id: int,
    limit: Limit = 50,
    after: Cursor = None,
) -> dict[str, Any]:
    """What the version changed of its parent; `after` is the last line of the page before."""
    with database.read() as session:
        items = versions.diff(session, storage, dataset_id, limit, after or 0)
    return {"items": items, "next": items[-1]["line"] if len(items) == limit else None}
