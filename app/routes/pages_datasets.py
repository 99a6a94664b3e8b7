"""Datasets as pages: the list with the upload, and one dataset with what was found in it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.analysis import Analysis
from app.db import Database, DatabaseDep
from app.errors import NotFound
from app.routes import pages_checks, pages_statistics, pictures
from app.routes import pages_data as data
from app.routes.pages_back import FormRefused, sentence
from app.routes.params import Cursor, StorageDep
from app.routes.record_filter import Search, hits
from app.routes.sample import has_sample, sample_file
from app.services import datasets, versions
from app.services.trashed import as_told
from app.storage import Received, Storage
from app.templating import render

PAGE_SIZE = 25

router = APIRouter(prefix="/datasets", include_in_schema=False, default_response_class=HTMLResponse)


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
async def show_dataset(
    request: Request,
    dataset_id: int,
    asked: Annotated[Search, Query()],
    numbers: pages_statistics.AskedNumbers,
    of: str | None = None,
    page: Cursor = None,
) -> HTMLResponse:
    """Counts, statistics, findings (`of` a kind, from `page` on), and the records that are asked for."""
    return await answer(request, dataset_id, asked, numbers, of, page)


async def answer(
    request: Request,
    dataset_id: int,
    asked: Search,
    numbers: pages_statistics.Asked,
    of: str | None = None,
    after: int | None = None,
    status_code: int = 200,
    **sent: Any,
) -> HTMLResponse:
    """The page; after a form that was refused with what was `sent` by it, and the `problem`."""
    database: Database = request.app.state.database
    counted = await pages_statistics.on_page(request, dataset_id, numbers)

    def show() -> HTMLResponse:
        with database.read() as session:
            context = _findings(request, session, dataset_id, of, after) | data.shell(session)
            found = hits(session, request.app.state.storage, dataset_id, asked) | _statistics(session, dataset_id)
            found["family"] = _family(session, dataset_id)
            found |= data.recheck_forms(session, found["dataset"]) | {"counted": counted}
        shown = context | found | _kinds(found["dataset"]) | {"problem": ""} | sent
        return render(request, "datasets/dataset.html", status_code=status_code, **shown)

    return await to_thread.run_sync(show)


async def answer_refused(request: Request, error: Exception) -> Response:
    """The page of the dataset once more, with what was wrong in a form of it and what had been typed."""
    assert isinstance(error, FormRefused)
    nothing, status = pages_statistics.Asked(None, None, None), error.error.status_code
    sent = {"problem": sentence(error.error), **error.sent}
    return await answer(request, error.dataset_id, Search(), nothing, status_code=status, **sent)


def _view(session: Session, dataset_id: int) -> dict[str, Any]:
    dataset = as_told(datasets.view(datasets.get(session, dataset_id)))
    return dataset | {"check": pages_checks.ended(dataset), "reading_form": pages_checks.reading_form(dataset)}


def _findings(
    request: Request, session: Session, dataset_id: int, kind: str | None, after: int | None
) -> dict[str, Any]:
    found = [datasets.finding_view(row) for row in datasets.findings(session, dataset_id, kind, None, PAGE_SIZE, after)]
    query = urlencode({key: value for key, value in (("of", kind), ("page", after)) if value is not None})
    more = request.url.include_query_params(page=found[-1]["id"]) if len(found) == PAGE_SIZE else None
    return {
        "dataset": _view(session, dataset_id),
        "findings": found,
        "kind": kind,
        "page_size": PAGE_SIZE,
        "next_url": f"/datasets/{dataset_id}?{more.query}" if more else None,
        "findings_url": f"/datasets/{dataset_id}/_findings" + (f"?{query}" if query else ""),
    }


def _family(session: Session, dataset_id: int) -> list[dict[str, Any]]:
    """The versions of a dataset, newest first; none where it is the only one."""
    views = [versions.view(one) for one in reversed(versions.family(session, dataset_id))]
    return [view | {"is_shown": view["id"] == dataset_id} for view in views] if len(views) > 1 else []


def _kinds(dataset: dict[str, Any]) -> dict[str, Any]:
    can_make = dataset["state"] == "ready" and dataset["trashed_at"] is None
    blank = {"chosen": {}, "version_name": ""}
    return {"dataset": dataset, "kinds": pictures.kinds(dataset["findings"]), "can_make": can_make} | blank


def _statistics(session: Session, dataset_id: int) -> dict[str, Any]:
    dataset = _view(session, dataset_id)
    drawn = pictures.pictures(dataset["findings"], dataset["statistics"])
    figures = pictures.figures(dataset["statistics"])
    return {"dataset": dataset, "figures": figures, "pictures": drawn}


@router.get("/{dataset_id}/_head")
def show_dataset_head(request: Request, database: DatabaseDep, dataset_id: int) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_head.html", dataset=_view(session, dataset_id))


@router.get("/{dataset_id}/_findings")
def show_findings(
    request: Request, database: DatabaseDep, dataset_id: int, of: str | None = None, page: Cursor = None
) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_findings.html", **_findings(request, session, dataset_id, of, page))


@router.get("/{dataset_id}/_kinds")
def show_kinds(request: Request, database: DatabaseDep, dataset_id: int) -> HTMLResponse:
    with database.read() as session:
        return render(request, "datasets/_kinds.html", **_kinds(_view(session, dataset_id)))


@router.get("/{dataset_id}/_statistics")
async def show_statistics(
    request: Request, database: DatabaseDep, dataset_id: int, numbers: pages_statistics.AskedNumbers
) -> HTMLResponse:
    counted = await pages_statistics.on_page(request, dataset_id, numbers)

    def show() -> HTMLResponse:
        with database.read() as session:
            return render(request, "datasets/_statistics.html", counted=counted, **_statistics(session, dataset_id))

    return await to_thread.run_sync(show)
