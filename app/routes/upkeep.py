"""The trash and the retention by REST and as pages, and the banner that says the disk is low."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.db import Database, DatabaseDep
from app.errors import Conflict, NotFound, WrongInput
from app.models import Adapter, Checkpoint, Dataset, Job
from app.routes import pages_data as data
from app.routes import pages_form
from app.routes.pages_back import lead_back
from app.routes.params import JsonBody, StorageDep, Who
from app.services import adapters, checkpoints, datasets, jobs, purge, retention, trash
from app.services.trashed import Thing, as_told, label
from app.templating import plural, render

router = APIRouter()
GIGABYTES = "max_gigabytes"
MAX_NAMED = 3  # in a toast
RETENTION_FIELDS = ("max_age_days", GIGABYTES, "trash_days", "daily_backups")
PLURALS: dict[trash.Kind, str] = {"dataset": "datasets", "job": "jobs", "adapter": "adapters"}
PAGES = {"dataset": "/datasets/{id}", "job": "/jobs/{id}", "adapter": "/adapters/{id}", "checkpoint": "/jobs/{job_id}"}


def view(session: Session, thing: Thing) -> dict[str, Any]:
    """A thing as its own address shows it."""
    if isinstance(thing, Dataset):
        return as_told(datasets.view(thing))
    if isinstance(thing, Adapter):
        return adapters.view(thing)
    return as_told(jobs.view(session, thing)) if isinstance(thing, Job) else checkpoints.view(thing)


def _add_kind(kind: trash.Kind, plural: str) -> None:
    def act(act_on: Callable[[Session, Thing, str], None]) -> Callable[..., dict[str, Any]]:
        def endpoint(database: DatabaseDep, number: int, who: Who) -> dict[str, Any]:
            with database.write() as session:
                thing = trash.get(session, kind, number)
                act_on(session, thing, who)
                return view(session, thing)

        return endpoint

    place = f"/api/{plural}/{{number}}"
    router.add_api_route(place, act(trash.move), methods=["DELETE"], name=f"trash_{kind}")
    router.add_api_route(f"{place}/restore", act(trash.restore), methods=["POST"], name=f"restore_{kind}")


for _kind, _plural in PLURALS.items():
    _add_kind(_kind, _plural)


def _checkpoint(session: Session, job_id: int, number: int) -> Checkpoint:
    thing = trash.get(session, "checkpoint", number)
    if not isinstance(thing, Checkpoint) or thing.job_id != job_id:
        raise NotFound(f"Job {job_id} has no checkpoint {number}.")
    return thing


@router.delete("/api/jobs/{job_id}/checkpoints/{number}")
def trash_checkpoint(database: DatabaseDep, job_id: int, number: int, who: Who) -> dict[str, Any]:
    with database.write() as session:
        thing = _checkpoint(session, job_id, number)
        trash.move(session, thing, who)
        return checkpoints.view(thing)


@router.post("/api/jobs/{job_id}/checkpoints/{number}/restore")
def restore_checkpoint(database: DatabaseDep, job_id: int, number: int, who: Who) -> dict[str, Any]:
    with database.write() as session:
        thing = _checkpoint(session, job_id, number)
        trash.restore(session, thing, who)
        return checkpoints.view(thing)


@router.get("/api/trash")
def show_trash(database: DatabaseDep) -> dict[str, Any]:
    """All that can be taken back, newest first, with the time at which its files go."""
    with database.read() as session:
        return {"items": trash.view_all(session), "next": None}


@router.post("/api/trash/empty")
def empty_trash(database: DatabaseDep, storage: StorageDep) -> dict[str, int]:
    """Delete all of it for good."""
    with database.write() as session:
        return {"deleted": purge.expired(session, storage, timedelta(0))}


@router.get("/api/settings/retention")
def show_retention(database: DatabaseDep) -> dict[str, Any]:
    with database.read() as session:
        return retention.read(session).model_dump()


@router.put("/api/settings/retention")
def change_retention(database: DatabaseDep, body: JsonBody) -> dict[str, Any]:
    """Set the keys given; the others stay."""
    with database.write() as session:
        return retention.change(session, body).model_dump()


@router.get("/trash", include_in_schema=False)
def show_trash_page(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return _trash_page(request, session, _retention_form(retention.read(session)), {})


def _trash_page(
    request: Request, session: Session, form: dict[str, str], errors: dict[str, str], status_code: int = 200
) -> HTMLResponse:
    keep = retention.read(session).trash_days
    shown: dict[str, Any] = {"items": _items(session), "keep": keep, "form": form, "errors": errors}
    return render(request, "trash/list.html", status_code=status_code, **shown, **data.shell(session))


def _retention_form(kept: retention.Retention) -> dict[str, str]:
    values = kept.model_dump()
    values[GIGABYTES] = None if kept.max_bytes is None else kept.max_bytes / 10**9
    return {name: pages_form.as_text(values[name]) for name in RETENTION_FIELDS}


@router.post("/trash/retention", include_in_schema=False, response_model=None)
async def change_retention_on_page(request: Request, database: DatabaseDep) -> Response:
    async with request.form() as sent:
        form = {name: str(sent.get(name, "")).strip() for name in RETENTION_FIELDS}
    return await to_thread.run_sync(_change_retention, request, database, form)


def _change_retention(request: Request, database: Database, form: dict[str, str]) -> Response:
    body = {name: pages_form.number_of(text) if text else None for name, text in form.items()}
    size = body.pop(GIGABYTES)
    body["max_bytes"] = round(size * 10**9) if isinstance(size, int | float) and abs(size) < 10**9 else size
    try:
        with database.write() as session:
            retention.change(session, body)
    except WrongInput as error:
        named = {one["field"].replace("max_bytes", GIGABYTES): one["message"] for one in error.detail or []}
        with database.read() as session:
            return _trash_page(request, session, form, named, error.status_code)
    return RedirectResponse("/trash", 303)


lead_back(router, "/trash/retention", "/trash")


def _items(session: Session) -> list[dict[str, Any]]:
    return [one | {"url": PAGES[one["kind"]].format(**one), "taken_back": False} for one in trash.view_all(session)]


def _row(session: Session, kind: trash.Kind, number: int) -> dict[str, Any] | None:
    return next((one for one in _items(session) if (one["kind"], one["id"]) == (kind, number)), None)


@router.get("/trash/empty", include_in_schema=False)
def ask_on_page(request: Request, database: DatabaseDep) -> HTMLResponse:
    """The question before the trash is emptied, as a page for browsers without script."""
    with database.read() as session:
        return render(request, "trash/empty.html", items=_items(session), **data.shell(session))


@router.get("/trash/_empty", include_in_schema=False)
def ask_in_dialog(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "trash/_empty.html", items=_items(session))


@router.post("/trash/empty", include_in_schema=False)
def empty_trash_page(database: DatabaseDep, storage: StorageDep) -> RedirectResponse:
    empty_trash(database, storage)
    return RedirectResponse("/trash", 303)


@router.post("/trash/_empty", include_in_schema=False)
def empty_trash_live(request: Request, database: DatabaseDep, storage: StorageDep) -> HTMLResponse:
    """What is left of the page, and in a toast what went."""
    with database.write() as session:
        gone = _items(session)
        purge.expired(session, storage, timedelta(0))
        context: dict[str, Any] = {"items": _items(session), "keep": retention.read(session).trash_days}
    names = ", ".join(one["name"] for one in gone[:MAX_NAMED]) + (" and more" if len(gone) > MAX_NAMED else "")
    words = f"Deleted {plural(len(gone), 'thing')} for good: {names}." if gone else "The trash was empty already."
    return render(request, "trash/_contents.html", headers=_toast(words), **context)


def _toast(words: str, undo: str | None = None) -> dict[str, str]:
    return {"HX-Trigger": json.dumps({"toast": {"kind": "ok", "text": words, "undo": undo}})}


def _add_button(action: str, act_on: Callable[[Session, Thing, str], None], words: str) -> None:
    """A button twice: with script it answers with the button that undoes it, without it goes back to the page."""

    def act(database: DatabaseDep, kind: trash.Kind, number: int, who: str) -> dict[str, Any]:
        with database.write() as session:
            thing = trash.get(session, kind, number)
            act_on(session, thing, who)
            return view(session, thing) | {"job_id": getattr(thing, "job_id", None)}

    @router.post(f"/trash/{{kind}}/{{number}}/_{action}", include_in_schema=False, name=f"{action}_live")
    def act_live(request: Request, database: DatabaseDep, kind: trash.Kind, number: int, who: Who) -> HTMLResponse:
        item = act(database, kind, number, who)
        name = item.get("name") or f"the checkpoint of step {item['step']}"
        undo = f"#trash-{kind}-{number} button" if action == "move" else None
        return render(
            request, "trash/_button.html", headers=_toast(words.format(name=name), undo), kind=kind, item=item
        )

    @router.post(f"/trash/{{kind}}/{{number}}/_row/{action}", include_in_schema=False, name=f"{action}_row")
    def act_row(request: Request, database: DatabaseDep, kind: trash.Kind, number: int, who: Who) -> HTMLResponse:
        """The thing's row in the trash, which stays there as one that was taken back."""
        with database.write() as session:
            thing = trash.get(session, kind, number)
            before = _row(session, kind, number)
            act_on(session, thing, who)
            item = _row(session, kind, number) or before
        if item is None:
            raise Conflict(f"{label(thing)} does not lie in the trash any more; reload the page.")
        item |= {"taken_back": action == "restore"}
        told = _toast(words.format(name=item["name"]), f"#trash-{kind}-{number} button")
        return render(request, "trash/_row.html", headers=told, item=item)

    @router.post(f"/trash/{{kind}}/{{number}}/{action}", include_in_schema=False, name=f"{action}_plain")
    def act_plain(database: DatabaseDep, kind: trash.Kind, number: int, who: Who) -> RedirectResponse:
        item = act(database, kind, number, who)
        return RedirectResponse(PAGES[kind].format(**item), 303)

    lead_back(router, f"/trash/{{kind}}/{{number}}/{action}", "/trash")


_add_button("move", trash.move, "Moved {name} to the trash.")
_add_button("restore", trash.restore, "Restored {name}.")


@router.get("/_banner", include_in_schema=False)
def show_banner(request: Request) -> HTMLResponse:
    return render(request, "_banner.html")
