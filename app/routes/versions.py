"""Versions of a dataset by REST: made by leaving out and repairing, listed, compared line by line."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from app.analysis import Analysis
from app.conversations.rewriting import Asked
from app.db import Database, DatabaseDep
from app.errors import Conflict, WrongInput
from app.routes.params import Cursor, JsonBody, Limit, StorageDep
from app.schemas import Body, field_errors
from app.services import datasets, versions
from app.space import Disk
from app.storage import PART, Storage

router = APIRouter(prefix="/api/datasets/{dataset_id}")

SMALL = 4 * 2**20
SMALL_WAIT_S = 5.0


class NewVersion(Body):
    """Kinds of findings whose lines are left out, and kinds that are repaired."""

    exclude: list[str] = Field(default_factory=list, max_length=100)
    repair: list[str] = Field(default_factory=list, max_length=100)
    name: str | None = Field(None, max_length=200)


@router.post("/versions")
async def make_version(
    request: Request, database: DatabaseDep, storage: StorageDep, dataset_id: int, body: JsonBody
) -> JSONResponse:
    """A new dataset without the excluded lines and with the others repaired; it is checked as an upload is."""
    new = _read(body)
    asked = Asked(frozenset(new.exclude), frozenset(new.repair))
    disk: Disk = request.app.state.disk
    analysis: Analysis = request.app.state.analysis
    begun = await to_thread.run_sync(_prepare, database, storage, disk, dataset_id, asked)
    if isinstance(begun, dict):
        return JSONResponse(begun | {"duplicate": True}, 200)
    made = await _rewrite(*begun, storage.incoming, asked)
    made_id, duplicate = await to_thread.run_sync(_store, database, storage, dataset_id, asked, new.name or "", made)
    if not duplicate:
        analysis.add(made_id)
    if made["size"] <= SMALL:
        await analysis.wait(made_id, SMALL_WAIT_S)
    view = await to_thread.run_sync(_view, database, made_id)
    return JSONResponse(view | ({"duplicate": True} if duplicate else {}), 200 if duplicate else 202)


def _read(body: Any) -> NewVersion:
    try:
        return NewVersion.model_validate(body)
    except ValidationError as error:
        wrong = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong) from None


def _prepare(
    database: Database, storage: Storage, disk: Disk, dataset_id: int, asked: Asked
) -> dict[str, Any] | tuple[Path, Path]:
    """The dataset that is already what is asked for, or the file with the lines and the one with the plan."""
    with database.read() as session:
        parent = versions.parent_for(session, dataset_id, asked)
        lines = datasets.lines_path(storage, parent)
        known = parent if versions.changes_nothing(parent, asked) else versions.made_before(session, parent, asked)
        if known is not None:
            return datasets.view(known)
        disk.require(parent.size, "this version")
        with NamedTemporaryFile(dir=storage.incoming, prefix=PART, delete=False) as file:
            file.writelines(versions.plan(session, parent, asked))
        return lines, Path(file.name)


async def _rewrite(lines: Path, plan: Path, folder: Path, asked: Asked) -> dict[str, Any]:
    """What the child process tells of the files it made."""
    arguments = [str(lines), str(plan), str(folder), msgspec.json.encode(asked).decode()]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.rewrite", *arguments), stdin=DEVNULL, stdout=PIPE
    )
    try:
        told, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        plan.unlink(missing_ok=True)
    if child.returncode:
        raise Conflict("The version could not be written; the log has the reason. Nothing was changed.")
    made: dict[str, Any] = json.loads(told)
    return made


def _store(
    database: Database, storage: Storage, dataset_id: int, asked: Asked, name: str, made: dict[str, Any]
) -> tuple[int, bool]:
    try:
        with database.write() as session:
            dataset, duplicate = versions.store(session, storage, dataset_id, asked, name, made)
            assert dataset.id is not None
            return dataset.id, duplicate
    finally:
        for one in (made, made["changes"]):
            Path(one["path"]).unlink(missing_ok=True)


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
