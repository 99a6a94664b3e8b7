"""Datasets as pages: the list with the upload, one dataset with what was found, one record as it is trained."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.analysis import Analysis
from app.db import Database, DatabaseDep
from app.errors import AppError, NotFound
from app.routes import pages_data as data
from app.routes.params import Cursor, ModelsDep, StorageDep
from app.schemas import DEFAULT_SYSTEM_PROMPT, TrainingConfig
from app.services import datasets, records
from app.services.base_models import BaseModels
from app.storage import Received, Storage
from app.templating import ROOT, render

PAGE_SIZE = 50
SAMPLES = ROOT / "examples"
MAX_LENGTH = TrainingConfig().max_length

router = APIRouter(prefix="/datasets")
LineNumber = Annotated[int | None, Query(ge=1)]


def sample_file() -> Path | None:
    """The sample that comes with the project, where it is there."""
    return next(iter(sorted(SAMPLES.glob("*.jsonl"))), None)


def has_sample() -> bool:
    return sample_file() is not None


def _list(request: Request, session: Session, after: int | None) -> dict[str, Any]:
    rows = data.dataset_views(session, PAGE_SIZE, after)
    query = f"?after={after}" if after is not None else ""
    more = {"next_url": data.next_url(request, rows, PAGE_SIZE), "rows_url": f"/datasets/_rows{query}"}
    return {"datasets": rows, "sample": has_sample()} | more


@router.get("")
def list_datasets(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        context = _list(request, session, after) | {"base_url": str(request.base_url).rstrip("/")}
        return render(request, "datasets/list.html", **context, **data.shell(session))


@router.get("/_rows")
def list_dataset_rows(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_rows.html", **_list(request, session, after))


@router.post("/sample", response_model=None)
async def add_sample(request: Request, database: DatabaseDep, storage: StorageDep) -> Response:
    """Take the sample that comes with the project as if it had been uploaded."""
    path = sample_file()
    if path is None:
        raise NotFound("This installation has no sample data; upload a file instead.")
    received = await storage.receive(_chunks(path), path.stat().st_size)
    dataset_id, known = await to_thread.run_sync(_keep, database, storage, received, path.name)
    if not known:
        analysis: Analysis = request.app.state.analysis
        analysis.add(dataset_id)
        await analysis.wait(dataset_id, 2.0)
    return RedirectResponse(f"/datasets/{dataset_id}", 303)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    yield path.read_bytes()


def _keep(database: Database, storage: Storage, received: Received, name: str) -> tuple[int, bool]:
    try:
        with database.write() as session:
            dataset, known = datasets.receive(session, storage, received, name)
            return dataset.id or 0, known
    finally:
        received.drop()


@router.get("/{dataset_id}")
def show_dataset(
    request: Request,
    database: DatabaseDep,
    storage: StorageDep,
    models: ModelsDep,
    dataset_id: int,
    kind: str | None = None,
    after: Cursor = None,
    line: LineNumber = None,
) -> HTMLResponse:
    """Counts, findings by kind, and one record in full."""
    with database.read() as session:
        context = _findings(request, session, dataset_id, kind, after) | data.shell(session)
        first = context["findings"][0]["line"] if kind and context["findings"] else 1
        found = _record(session, storage, models, dataset_id, line or first)
    return render(request, "datasets/dataset.html", **context, **found)


def _findings(
    request: Request, session: Session, dataset_id: int, kind: str | None, after: int | None
) -> dict[str, Any]:
    found = [datasets.finding_view(row) for row in datasets.findings(session, dataset_id, kind, None, PAGE_SIZE, after)]
    query = f"?{request.url.query}" if request.url.query else ""
    return {
        "dataset": datasets.view(datasets.get(session, dataset_id)),
        "findings": found,
        "kind": kind,
        "page_size": PAGE_SIZE,
        "next_url": data.next_url(request, found, PAGE_SIZE),
        "findings_url": f"/datasets/{dataset_id}/_findings{query}",
    }


def _record(session: Session, storage: Storage, models: BaseModels, dataset_id: int, line: int) -> dict[str, Any]:
    """The record of a line, or why it cannot be shown."""
    dataset = datasets.get(session, dataset_id)
    found = datasets.findings_of_line(session, dataset_id, line)
    folder = models.tokenizer_folder(None, storage.root)
    try:
        shown = records.show(datasets.lines_path(storage, dataset), line, folder, DEFAULT_SYSTEM_PROMPT, MAX_LENGTH)
    except AppError as error:
        return {"line": line, "record": None, "problem": error.message}
    except FileNotFoundError:
        return {"line": line, "record": None, "problem": "The file of this dataset is not here any more."}
    return {"line": line, "record": shown | {"findings": found}, "problem": None}


@router.get("/{dataset_id}/_head")
def show_dataset_head(request: Request, database: DatabaseDep, dataset_id: int) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_head.html", dataset=datasets.view(datasets.get(session, dataset_id)))


@router.get("/{dataset_id}/_findings")
def show_findings(
    request: Request, database: DatabaseDep, dataset_id: int, kind: str | None = None, after: Cursor = None
) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_findings.html", **_findings(request, session, dataset_id, kind, after))


@router.get("/{dataset_id}/_record")
def show_record(
    request: Request, database: DatabaseDep, storage: StorageDep, models: ModelsDep, dataset_id: int, line: int
) -> HTMLResponse:
    with database.read() as session:
        dataset = datasets.view(datasets.get(session, dataset_id))
        found = _record(session, storage, models, dataset_id, line)
    return render(request, "datasets/_record.html", dataset=dataset, **found)
