"""The queue as a whole: its jobs in the order of claiming, its pause and its quiet hours."""

from typing import Any

from fastapi import APIRouter

from app.db import DatabaseDep
from app.routes.params import Cursor, Limit, Who, page_of
from app.services import jobs, opening, order, waiting

router = APIRouter(prefix="/api/queue")


@router.get("")
def show_queue(database: DatabaseDep, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """Queued jobs, next first; `after` is the id of the last job of the page before."""
    with database.read() as session:
        rows = waiting.page(session, limit, jobs.get(session, after) if after is not None else None)
        page = page_of(rows, jobs.views(session, rows), limit)
        return page | opening.view(opening.read(session))


@router.put("")
def change_queue(database: DatabaseDep, who: Who, body: opening.Change) -> dict[str, Any]:
    """Pause it or open it, set quiet hours. Lanes begin no job meanwhile; those they hold go on."""
    with database.write() as session:
        order.open_or_close(session, body, who)
        return opening.view(opening.read(session))
