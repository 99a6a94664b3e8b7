"""The buttons of jobs: each with script as an empty answer that tells what was done, without it back to a page."""

from collections.abc import Callable, Mapping

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.db import Database, DatabaseDep
from app.errors import wrong_field
from app.models import HELD, PRIORITIES, Job
from app.routes.pages_back import lead_back
from app.routes.params import Who
from app.services import control, jobs, order, waiting
from app.templating import told

Sent = Mapping[str, str]
WAYS: dict[str, Callable[[int], int]] = {
    "first": lambda _place: 1,
    "up": lambda place: place - 1,
    "down": lambda place: place + 1,
}

router = APIRouter(prefix="/jobs", include_in_schema=False)


def _cancel(session: Session, job: Job, who: str, sent: Sent) -> str:
    save = sent.get("save", "true") != "false"
    control.cancel(session, job, who, save=save)
    kept = "A checkpoint is saved first." if save else "The steps since the last checkpoint are dropped."
    return f"Stopping {job.name}. {kept}" if job.state in HELD else f"Stopped {job.name}."


def _pause(session: Session, job: Job, who: str, _sent: Sent) -> str:
    control.pause(session, job, who)
    return f"Pausing {job.name}. A checkpoint is saved first."


def _resume(session: Session, job: Job, who: str, _sent: Sent) -> str:
    control.resume(session, job, who)
    return _place(session, job)


def _retry(session: Session, job: Job, who: str, _sent: Sent) -> str:
    control.retry(session, job, who)
    return _place(session, job)


def _save(session: Session, job: Job, who: str, _sent: Sent) -> str:
    control.save(session, job, who)
    return "A checkpoint is saved after the row in flight."


def _sample(session: Session, job: Job, who: str, _sent: Sent) -> str:
    control.sample(session, job, who)
    return "The model answers its prompts after the row in flight."


def _preempt(session: Session, job: Job, who: str, _sent: Sent) -> str:
    order.preempt(session, job, who)
    return f"{job.name} saves and lets job {job.makes_way_for} go first."


def _priority(session: Session, job: Job, who: str, sent: Sent) -> str:
    name = sent.get("priority", "")
    if name not in PRIORITIES:
        raise wrong_field("priority", f"must be one of {', '.join(PRIORITIES)}")
    control.set_priority(session, job, name, who)
    return f"The priority of {job.name} is {name} now."


def _move(session: Session, job: Job, who: str, sent: Sent) -> str:
    if sent.get("way") not in WAYS:
        raise wrong_field("way", f"must be one of {', '.join(WAYS)}")
    # From the place that it has now, not from the one that the page shows: so each of several fast clicks counts.
    place = waiting.position_of(session, job) or 1
    order.move(session, job, who, before=None, position=max(1, WAYS[sent["way"]](place)))
    return f"{job.name}: {_place(session, job).lower()}"


def _place(session: Session, job: Job) -> str:
    session.flush()
    return f"Queued at place {waiting.position_of(session, job)}."


ACTIONS: dict[str, Callable[[Session, Job, str, Sent], str]] = {
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "save": _save,
    "sample": _sample,
    "preempt": _preempt,
    "priority": _priority,
    "move": _move,
}


def _add_action(action: str) -> None:
    @router.post(f"/{{job_id}}/_{action}", name=f"{action}_job_live", response_model=None)
    async def act_live(request: Request, database: DatabaseDep, job_id: int, who: Who) -> Response:
        return told(await _act(request, database, job_id, action, who))

    @router.post(f"/{{job_id}}/{action}", name=f"{action}_job", response_model=None)
    async def act(request: Request, database: DatabaseDep, job_id: int, who: Who) -> Response:
        await _act(request, database, job_id, action, who)
        return RedirectResponse("/queue" if action in ("move", "priority") else f"/jobs/{job_id}", 303)

    lead_back(router, f"/{{job_id}}/{action}", "/jobs/{job_id}")


async def _act(request: Request, database: Database, job_id: int, action: str, who: str) -> str:
    async with request.form() as form:
        sent = {name: str(value) for name, value in form.items()}

    def write() -> str:
        with database.write() as session:
            return ACTIONS[action](session, jobs.get(session, job_id), who, sent)

    return await to_thread.run_sync(write)


for _name in ACTIONS:
    _add_action(_name)
