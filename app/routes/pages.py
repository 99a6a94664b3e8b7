"""Dashboard and adapters as pages; each changing region has an address of its own that starts with `_`."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from app.db import DatabaseDep
from app.routes import (
    pages_actions,
    pages_jobs,
    pages_new,
    pages_nodes,
    pages_queue,
    pages_recipes,
    pages_records,
)
from app.routes import pages_data as data
from app.routes.params import Cursor, ModelsDep
from app.routes.sample import has_sample
from app.schemas import TINY_MODEL
from app.services import adapters
from app.templating import render

PAGE_SIZE = 50

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
router.include_router(pages_new.router)
router.include_router(pages_actions.router)
router.include_router(pages_queue.router)
router.include_router(pages_nodes.router)
router.include_router(pages_jobs.router)
router.include_router(pages_records.router)
router.include_router(pages_recipes.router)


@router.get("/")
def show_dashboard(request: Request, database: DatabaseDep) -> HTMLResponse:
    """What runs, what waits, what ended; before the first job, the way to it."""
    with database.read() as session:
        if data.is_new(session):
            return render(request, "home/first.html", **data.shell(session), **_welcome(request, session))
        return render(request, "home/home.html", **data.dashboard(session))


def _welcome(request: Request, session: Session) -> dict[str, Any]:
    return {
        "datasets": data.dataset_views(session, PAGE_SIZE),
        "sample": has_sample(),
        "base_url": str(request.base_url).rstrip("/"),
    }


@router.get("/_welcome")
def show_welcome(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_welcome.html", lanes=data.lanes(session), **_welcome(request, session))


@router.get("/_summary")
def show_summary(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_summary.html", **data.counts(session) | data.hero(session))


@router.get("/_hero")
def show_hero(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_hero.html", **data.hero(session))


@router.get("/_node")
def show_node(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_node.html", lanes=data.lanes(session))


@router.get("/_queue")
def show_queue(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_queue.html", **{name: data.hero(session)[name] for name in ("queue", "closed")})


@router.get("/_recent")
def show_recent(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "home/_recent.html", recent=data.recent(session))


@router.get("/adapters")
def list_adapters(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        rows = data.adapter_views(session, PAGE_SIZE, after)
        more = {"next_url": data.next_url(request, rows, PAGE_SIZE), "rows_url": _rows_url("/adapters/_rows", after)}
        return render(request, "adapters/list.html", adapters=rows, **more | data.shell(session))


@router.get("/adapters/_rows")
def list_adapter_rows(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        rows = data.adapter_views(session, PAGE_SIZE, after)
        return render(request, "adapters/_rows.html", adapters=rows, rows_url=_rows_url("/adapters/_rows", after))


def _rows_url(path: str, after: int | None) -> str:
    return path if after is None else f"{path}?after={after}"


@router.get("/adapters/{adapter_id}")
def show_adapter(request: Request, database: DatabaseDep, models: ModelsDep, adapter_id: int) -> HTMLResponse:
    with database.read() as session:
        adapter = adapters.view(adapters.get(session, adapter_id))
        prompt = (adapter["manifest"].get("config") or {}).get("system_prompt")
        folder = models.folder(adapter["model"])
        if adapter["model"] == TINY_MODEL:
            folder = request.app.state.settings.work_path / "models" / TINY_MODEL
        base = str(folder) if folder else adapter["model"]
        context: dict[str, Any] = {"adapter": adapter, "system_prompt": prompt, "base_path": base}
        return render(request, "adapters/adapter.html", **context | data.shell(session))
