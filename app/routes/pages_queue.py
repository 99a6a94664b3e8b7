"""The queue as a page: its jobs in the order of claiming, its pause and its quiet hours."""

from collections.abc import Callable
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from sqlmodel import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.columns import utc_now
from app.db import Database, DatabaseDep
from app.errors import WrongInput
from app.routes import pages_data as data
from app.routes.pages_back import lead_back
from app.routes.params import Who
from app.schemas import field_errors
from app.services import jobs, opening, order, waiting
from app.templating import render, told

MAX_SHOWN = 200

router = APIRouter(prefix="/queue", include_in_schema=False, default_response_class=HTMLResponse)


def _queue(session: Session) -> dict[str, Any]:
    rows = waiting.page(session, MAX_SHOWN)
    opened = opening.read(session)
    return {
        "queue": data.job_cards(session, rows),
        "num_queued": jobs.num_queued(session),
        "opening": opening.view(opened),
        "closed": opened.closed(utc_now()),
        "days": opening.DAYS,
    }


@router.get("")
def show_queue(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "queue/queue.html", **_queue(session), **data.shell(session))


@router.get("/_list")
def show_list(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "queue/_list.html", **_queue(session))


@router.get("/_opening")
def show_opening(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "queue/_opening.html", **_queue(session))


@router.get("/_hours")
def show_hours(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "queue/_hours.html", **_queue(session))


def _pause(_now: opening.Opening, _sent: FormData) -> tuple[opening.Change, str]:
    return opening.Change(paused=True), "The queue is paused. Jobs that run go on; no other begins."


def _open(_now: opening.Opening, _sent: FormData) -> tuple[opening.Change, str]:
    return opening.Change(paused=False), "The queue is open again."


def _add_hours(now: opening.Opening, sent: FormData) -> tuple[opening.Change, str]:
    given = {"from": sent.get("from"), "to": sent.get("to"), "days": sent.getlist("days")}
    try:
        added = opening.QuietHours.model_validate(given | {"time_zone": sent.get("time_zone") or None})
    except ValidationError as error:
        wrong = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong) from None
    words = f"No job begins between {added.begin} and {added.end}."
    if added.begin == added.end:
        words = f"No job begins from {added.begin} on for a whole day, on each day that was chosen."
    return opening.Change(quiet_hours=[*now.quiet_hours, added]), words


def _remove_hours(now: opening.Opening, sent: FormData) -> tuple[opening.Change, str]:
    """The hours are named by their words, so that a page that is out of date removes no others."""
    kept = [one for one in now.quiet_hours if hours_key(one.model_dump(by_alias=True)) != sent.get("hours")]
    return opening.Change(quiet_hours=kept), "These quiet hours are gone."


def hours_key(hours: dict[str, Any]) -> str:
    return f"{hours['from']} {hours['to']} {','.join(hours['days'])} {hours['time_zone'] or ''}".strip()


ACTIONS: dict[str, Callable[[opening.Opening, FormData], tuple[opening.Change, str]]] = {
    "pause": _pause,
    "open": _open,
    "add_hours": _add_hours,
    "remove_hours": _remove_hours,
}


def _add_action(action: str) -> None:
    @router.post(f"/_{action}", name=f"{action}_live", response_model=None)
    async def act_live(request: Request, database: DatabaseDep, who: Who) -> Response:
        return told(await _act(request, database, action, who))

    @router.post(f"/{action}", name=action, response_model=None)
    async def act(request: Request, database: DatabaseDep, who: Who) -> Response:
        await _act(request, database, action, who)
        return RedirectResponse("/queue", 303)

    lead_back(router, f"/{action}", "/queue")


async def _act(request: Request, database: Database, action: str, who: str) -> str:
    async with request.form() as sent:

        def write() -> str:
            with database.write() as session:
                wanted, words = ACTIONS[action](opening.read(session), sent)
                order.open_or_close(session, wanted, who)
                return words

        return await to_thread.run_sync(write)


for _name in ACTIONS:
    _add_action(_name)
