"""Datasets by REST: three ways in, the list, one of them, its findings, one record as it is trained."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from app.analysis import Analysis
from app.config import Settings
from app.conversations.containers.reading import Reading
from app.db import Database, DatabaseDep
from app.errors import NotFound, wrong_field
from app.routes.params import Cursor, Limit, ModelsDep, StorageDep, page_of
from app.schemas import DEFAULT_SYSTEM_PROMPT, Body
from app.services import datasets, rechecks, records
from app.services.trashed import as_told
from app.space import Disk
from app.storage import Received, Storage
from app.upload import FormFile, body_chunks, is_form, told_size

router = APIRouter(prefix="/api/datasets")

DatasetId = Annotated[int, Field(ge=1, le=2**53)]
SMALL = 4 * 2**20
SMALL_WAIT_S = 5.0


def _asked_reading(shape: str | None = None, fields: str | None = None) -> Reading:
    """`?shape=prompt&fields=prompt=question,response=answer`, where the keys of a file do not say how it is meant."""
    return Reading.written(shape, fields)


ReadingDep = Annotated[Reading, Depends(_asked_reading)]


@router.put("/{name:path}")
async def put_dataset(
    request: Request, database: DatabaseDep, storage: StorageDep, name: str, reading: ReadingDep
) -> JSONResponse:
    """The raw body as a dataset of that name (`curl -T`)."""
    return await _receive(request, database, storage, name, reading)


@router.post("")
async def post_dataset(
    request: Request, database: DatabaseDep, storage: StorageDep, reading: ReadingDep, name: str = ""
) -> JSONResponse:
    """The raw body (`--data-binary @`), or the part `file` of a form (`-F file=@`)."""
    return await _receive(request, database, storage, name, reading)


async def _receive(request: Request, database: Database, storage: Storage, name: str, reading: Reading) -> JSONResponse:
    settings: Settings = request.app.state.settings
    disk: Disk = request.app.state.disk
    body = body_chunks(request, settings.max_upload_bytes)
    disk.require(told_size(request), "this file")
    check = partial(disk.require, 0, "this file")
    if is_form(request):
        form = FormFile(request)
        received = await storage.receive(form.chunks(body), settings.max_upload_bytes, check)
        name = name or form.name
    else:
        received = await storage.receive(body, settings.max_upload_bytes, check)
    if received.size == 0:
        received.drop()
        raise wrong_field("file", "is empty")
    wanted = request.headers.get("x-checksum-sha256")
    if wanted and wanted.lower() != received.sha256:
        received.drop()
        raise wrong_field("file", f"arrived with sha256 {received.sha256}, not {wanted}; send it again")
    dataset_id, duplicate, again = await to_thread.run_sync(_store, database, storage, received, name, reading)
    analysis: Analysis = request.app.state.analysis
    for one in again:
        analysis.add(one)
    if received.size <= SMALL:
        await analysis.wait(dataset_id, SMALL_WAIT_S)
    view = await to_thread.run_sync(_view, database, dataset_id)
    return JSONResponse(view | ({"duplicate": True} if duplicate else {}), 200 if duplicate else 201)


def _store(
    database: Database, storage: Storage, received: Received, name: str, reading: Reading
) -> tuple[int, bool, list[int]]:
    """The dataset, whether its bytes were here, and which to check: a known file may be meant otherwise now."""
    asked = msgspec.to_builtins(reading) or None
    try:
        with database.write() as session:
            dataset, duplicate = datasets.receive(session, storage, received, name, asked)
            assert dataset.id is not None
            if duplicate and asked not in (None, dataset.reading):
                return dataset.id, True, rechecks.read_as(session, dataset, reading)
            return dataset.id, duplicate, [] if duplicate else [dataset.id]
    finally:
        received.drop()


def _view(database: Database, dataset_id: int) -> dict[str, Any]:
    with database.read() as session:
        return as_told(datasets.view(datasets.get(session, dataset_id)))


@router.get("")
def list_datasets(
    database: DatabaseDep, limit: Limit = 50, after: Cursor = None, trashed: bool = False
) -> dict[str, Any]:
    """Datasets, newest first."""
    with database.read() as session:
        rows = datasets.page(session, limit, after, trashed)
        return page_of(rows, [datasets.view(row) for row in rows], limit)


@router.get("/{dataset_id}")
def show_dataset(database: DatabaseDep, dataset_id: int) -> dict[str, Any]:
    return _view(database, dataset_id)


class AskedReading(Body):
    """A shape by name, and the file's own names for the keys of a shape."""

    shape: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)


@router.post("/{dataset_id}/reading", status_code=202)
def read_dataset_as(request: Request, database: DatabaseDep, dataset_id: int, asked: AskedReading) -> dict[str, Any]:
    """Read the file as another shape than was detected; it is checked anew."""
    with database.write() as session:
        again = rechecks.read_as(session, datasets.get(session, dataset_id), Reading(asked.shape, asked.fields))
    for one in again:
        request.app.state.analysis.add_from_thread(one)
    return _view(database, dataset_id)


class AskedComparison(Body):
    """The datasets that a model is trained on."""

    datasets: list[DatasetId] = Field(max_length=50)


@router.post("/{dataset_id}/compare", status_code=202)
def compare_dataset(request: Request, database: DatabaseDep, dataset_id: int, asked: AskedComparison) -> dict[str, Any]:
    """Look for questions of the training data in a validation dataset; it is checked anew."""
    with database.write() as session:
        rechecks.compare(session, datasets.get(session, dataset_id), asked.datasets)
    request.app.state.analysis.add_from_thread(dataset_id)
    return _view(database, dataset_id)


@router.post("/{dataset_id}/cancel")
async def cancel_check(request: Request, database: DatabaseDep, dataset_id: int) -> dict[str, Any]:
    """Stop its check."""
    await request.app.state.analysis.cancel(dataset_id)
    return await to_thread.run_sync(_view, database, dataset_id)


@router.get("/{dataset_id}/findings")
def list_findings(
    database: DatabaseDep,
    dataset_id: int,
    kind: str | None = None,
    severity: str | None = None,
    limit: Limit = 50,
    after: Cursor = None,
) -> dict[str, Any]:
    """What was found in it, in the order of its lines."""
    with database.read() as session:
        rows = datasets.findings(session, dataset_id, kind, severity, limit, after)
        return page_of(rows, [datasets.finding_view(row) for row in rows], limit)


@router.get("/{dataset_id}/records/{line}")
def show_record(
    database: DatabaseDep,
    storage: StorageDep,
    models: ModelsDep,
    dataset_id: int,
    line: int,
    model: str | None = None,
    system_prompt: str = DEFAULT_SYSTEM_PROMPT,
    max_length: Annotated[int, Query(ge=16, le=262_144)] = 2048,
) -> dict[str, Any]:
    """One line as it is: raw, normalized, rendered, and every token with the part it plays in training."""
    with database.read() as session:
        dataset = datasets.get(session, dataset_id)
        found = datasets.findings_of_line(session, dataset_id, line)
    path: Path = datasets.lines_path(storage, dataset)
    try:
        shown = records.show(path, line, models.tokenizer_folder(model, storage.root), system_prompt, max_length)
    except FileNotFoundError as error:
        raise NotFound("The file of this dataset is not here any more.") from error
    return shown | {"findings": found}
