"""Jobs by REST: made, listed, one of them, its curves, log and history, and what may be asked of it."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from app.db import Database, DatabaseDep
from app.models import Job, JobState
from app.routes.params import Cursor, JsonBody, Limit, ModelsDep, Who, page_of
from app.services import checkpoints, control, estimates, jobs, metrics

router = APIRouter(prefix="/api/jobs")


class CancelBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    save: bool = True


class PriorityBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    priority: Literal["urgent", "high", "normal", "low"]


class CloneBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    config: dict[str, Any] = {}


@router.post("", status_code=201)
def create_job(database: DatabaseDep, models: ModelsDep, who: Who, body: JsonBody) -> dict[str, Any]:
    """Queue a job; every wrong field is named at once."""
    with database.write() as session:
        new, config = jobs.read_new_job(session, body, models)
        return jobs.view(session, estimates.attach(session, models, jobs.create(session, new, config, who)))


@router.get("")
def list_jobs(
    database: DatabaseDep,
    limit: Limit = 50,
    after: Cursor = None,
    state: JobState | None = None,
    trashed: bool = False,
) -> dict[str, Any]:
    """Jobs, newest first."""
    with database.read() as session:
        rows = jobs.page(session, limit, after, state, trashed)
        return page_of(rows, [jobs.view(session, row) for row in rows], limit)


@router.get("/{job_id}")
def show_job(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    with database.read() as session:
        return jobs.view(session, jobs.get(session, job_id))


@router.get("/{job_id}/metrics")
def job_metrics(
    database: DatabaseDep,
    job_id: int,
    from_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    to_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    max_points: Annotated[int, Query(ge=1)] = 2000,
) -> dict[str, Any]:
    """Columns, one entry a step; thinned so that the least and the greatest of each bucket stay."""
    with database.read() as session:
        return metrics.read(session, job_id, from_step, to_step, max_points)


@router.get("/{job_id}/log", response_class=PlainTextResponse)
def job_log(database: DatabaseDep, job_id: int) -> str:
    with database.read() as session:
        return metrics.log_text(session, job_id)


@router.get("/{job_id}/history")
def job_history(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    """Who did what, oldest first."""
    with database.read() as session:
        return {"items": jobs.history(session, job_id), "next": None}


@router.get("/{job_id}/samples")
def job_samples(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    """What the model answered to the fixed prompts, oldest first."""
    with database.read() as session:
        jobs.get(session, job_id)
        return {"items": [event.data for event in metrics.of_kind(session, job_id, "sample")], "next": None}


@router.get("/{job_id}/checkpoints")
def job_checkpoints(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    """Checkpoints it could go on from, newest first."""
    with database.read() as session:
        jobs.get(session, job_id)
        return {"items": checkpoints.view_all(session, job_id), "next": None}


def _act(database: Database, job_id: int, act: Callable[[Session, Job], None]) -> dict[str, Any]:
    """Do something to the job and show it as it is then."""
    with database.write() as session:
        job = jobs.get(session, job_id)
        act(session, job)
        session.flush()
        return jobs.view(session, job)


@router.post("/{job_id}/cancel")
def cancel_job(database: DatabaseDep, job_id: int, who: Who, body: CancelBody | None = None) -> dict[str, Any]:
    """Save and stop; with `{"save": false}` stop at once."""
    save = body is None or body.save
    return _act(database, job_id, lambda session, job: control.cancel(session, job, who, save))


@router.post("/{job_id}/pause")
def pause_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Save and give the lane back."""
    return _act(database, job_id, lambda session, job: control.pause(session, job, who))


@router.post("/{job_id}/resume")
def resume_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Go on from the newest checkpoint."""
    return _act(database, job_id, lambda session, job: control.resume(session, job, who))


@router.post("/{job_id}/retry")
def retry_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Start again at step 0 with the same configuration."""
    return _act(database, job_id, lambda session, job: control.retry(session, job, who))


@router.post("/{job_id}/save")
def save_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Write a checkpoint now."""
    return _act(database, job_id, lambda session, job: control.save(session, job, who))


@router.post("/{job_id}/priority")
def set_job_priority(database: DatabaseDep, job_id: int, who: Who, body: PriorityBody) -> dict[str, Any]:
    """Let it go before or after others."""
    return _act(database, job_id, lambda session, job: control.set_priority(session, job, body.priority, who))


@router.post("/{job_id}/clone", status_code=201)
def clone_job(
    database: DatabaseDep, models: ModelsDep, job_id: int, who: Who, body: CloneBody | None = None
) -> dict[str, Any]:
    """A new job like this one, with the configuration keys given changed."""
    with database.write() as session:
        new = control.clone(session, jobs.get(session, job_id), body.config if body else {}, who)
        return jobs.view(session, estimates.attach(session, models, new))
