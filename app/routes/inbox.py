"""The inbox by REST and as a page: every file with its state and why, replayed or taken off the list."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session

from app.db import Database, DatabaseDep
from app.inbox_files import Standing
from app.inbox_table import ENDED, LIVE
from app.routes import pages_data as data
from app.routes.pages_back import lead_back
from app.routes.params import Cursor, Limit, page_of
from app.services import inbox
from app.templating import render

PAGE_SIZE = 50
PILLS = {"training": "running", "archived": "ready", "held": "warning", "waiting": "warning"} | {
    "quarantined": "failed",
    "failed": "failed",
}

router = APIRouter()


def _standing(request: Request) -> Standing:
    standing: Standing = request.app.state.inbox.standing
    return standing


@router.get("/api/inbox")
def list_inbox(request: Request, database: DatabaseDep, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """Files, newest first; `problem` is why none is taken now."""
    standing = _standing(request)
    with database.read() as session:
        rows = inbox.page(session, limit, after)
        page = page_of(rows, [inbox.view(session, row) for row in rows], limit)
    return page | {"folder": str(standing.folder), "problem": standing.problem}


@router.post("/api/inbox/{file_id}/replay", status_code=202)
def replay_file(request: Request, database: DatabaseDep, file_id: int) -> dict[str, Any]:
    """Put an ended file back into the inbox and train it, whatever was trained before."""
    return _replay(request, database, file_id)


@router.post("/api/inbox/{file_id}/dismiss")
def dismiss_file(database: DatabaseDep, file_id: int) -> dict[str, Any]:
    """Take an ended file off the list; it stays on disk."""
    return _dismiss(database, file_id)


def _replay(request: Request, database: Database, file_id: int) -> dict[str, Any]:
    with database.write() as session:
        row = inbox.get(session, file_id)
        inbox.replay(session, row)
        shown = inbox.view(session, row)
    request.app.state.inbox.nudge()
    return shown


def _dismiss(database: Database, file_id: int) -> dict[str, Any]:
    with database.write() as session:
        row = inbox.get(session, file_id)
        inbox.dismiss(session, row)
        return inbox.view(session, row)


@router.get("/inbox", include_in_schema=False)
def show_inbox(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        return render(request, "inbox/list.html", **_context(request, session, after), **data.shell(session))


@router.get("/inbox/_rows", include_in_schema=False)
def list_inbox_rows(request: Request, database: DatabaseDep, after: Cursor = None) -> HTMLResponse:
    with database.read() as session:
        return render(request, "inbox/_rows.html", **_context(request, session, after))


def _context(request: Request, session: Session, after: int | None) -> dict[str, Any]:
    standing, models = _standing(request), request.app.state.base_models
    rows = [inbox.view(session, row) for row in inbox.page(session, PAGE_SIZE, after)]
    query = f"?after={after}" if after is not None else ""
    place = {"folder": str(standing.folder), "problem": standing.problem, "default_model": models.default}
    place["default_recipe"] = request.app.state.settings.default_recipe
    place["pills"] = {state: PILLS.get(state, state) for state in (*LIVE, *ENDED)}
    return place | {
        "rows": rows,
        "rows_url": f"/inbox/_rows{query}",
        "next_url": data.next_url(request, rows, PAGE_SIZE),
    }


@router.post("/inbox/{file_id}/replay", include_in_schema=False)
def replay_on_page(request: Request, database: DatabaseDep, file_id: int) -> RedirectResponse:
    _replay(request, database, file_id)
    return RedirectResponse("/inbox", 303)


@router.post("/inbox/{file_id}/dismiss", include_in_schema=False)
def dismiss_on_page(database: DatabaseDep, file_id: int) -> RedirectResponse:
    _dismiss(database, file_id)
    return RedirectResponse("/inbox", 303)


for _name in ("replay", "dismiss"):
    lead_back(router, f"/inbox/{{file_id}}/{_name}", "/inbox")
