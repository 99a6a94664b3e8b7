"""Jobs by REST: made, listed, one of them, its curves, log and history, and what may be asked of it."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field
from sqlmodel import Session

from app.db import Database, DatabaseDep, to_json
from app.errors import wrong_field
from app.models import Job, JobState
from app.routes.params import Cursor, JsonBody, Limit, ModelsDep, Who, page_of
from app.schemas import Body
from app.services import black_boxes, checkpoints, control, estimates, jobs, metrics, order
from app.services.needs import Moment, Needs
from app.services.new_job import JobId, Priority
from app.services.trashed import as_told

router = APIRouter(prefix="/api/jobs")


class CancelBody(Body):
    save: bool = True


class PriorityBody(Body):
    priority: Priority


class MoveBody(Body):
    """Before another job, or at a place (1 = next): one of the two."""

    before: int | None = Field(None, ge=1, le=2**53)
    position: int | None = Field(None, ge=1, le=2**53)


class CloneBody(Body):
    """What shall be other than in the job that is cloned; of the configuration, single keys."""

    config: dict[str, Any] = Field(default_factory=dict)
    name: str | None = Field(None, min_length=1, max_length=200)
    priority: Priority | None = None
    needs: Needs | None = None
    depends_on: list[JobId] = Field(default_factory=list, max_length=100)
    start_after: Moment | None = None
    max_duration_s: float | None = Field(None, gt=0, le=10**9, allow_inf_nan=False)

    def changes(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in self.model_fields_set - {"config"}}
        return {key: value for key, value in given.items() if value is not None or key not in ("name", "priority")}


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
        return page_of(rows, jobs.views(session, rows), limit)


@router.get("/{job_id}")
def show_job(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    with database.read() as session:
        return as_told(jobs.view(session, jobs.get(session, job_id)))


@router.get("/{job_id}/metrics")
def job_metrics(
    database: DatabaseDep,
    job_id: int,
    from_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    to_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    max_points: Annotated[int, Query(ge=1)] = 2000,
) -> Response:
    """Columns, one entry a step; thinned so that the least and the greatest of each bucket stay."""
    with database.read() as session:
        columns = metrics.read(session, job_id, from_step, to_step, max_points)
    return Response(to_json(columns), media_type="application/json")


@router.get("/{job_id}/log", response_class=PlainTextResponse)
def job_log(database: DatabaseDep, job_id: int) -> str:
    with database.read() as session:
        return metrics.log_text(session, job_id)


@router.get("/{job_id}/history")
def job_history(database: DatabaseDep, job_id: int, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """Who did what, oldest first."""
    with database.read() as session:
        rows = jobs.history(session, job_id, limit, after)
        return page_of(rows, [jobs.history_view(row) for row in rows], limit)


@router.get("/{job_id}/samples")
def job_samples(database: DatabaseDep, job_id: int, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """What the model answered to the fixed prompts, oldest first."""
    with database.read() as session:
        jobs.get(session, job_id)
        rows = metrics.of_kind(session, job_id, "sample", limit, after)
        return page_of(rows, [event.data for event in rows], limit)


@router.get("/{job_id}/checkpoints")
def job_checkpoints(database: DatabaseDep, job_id: int, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """Checkpoints it could go on from, newest first; the cursor is a step."""
    with database.read() as session:
        jobs.get(session, job_id)
        views = checkpoints.view_all(session, job_id, limit, after)
        return {"items": views, "next": views[-1]["step"] if len(views) == limit else None}


@router.get("/{job_id}/attempts")
def job_attempts(database: DatabaseDep, job_id: int) -> dict[str, Any]:
    """Each time a lane took the job, oldest first."""
    with database.read() as session:
        return {"items": black_boxes.view_all(session, job_id), "next": None}


@router.get("/{job_id}/attempts/{number}/black-box")
def attempt_black_box(database: DatabaseDep, job_id: int, number: int) -> dict[str, Any]:
    """What was last seen of an attempt that ended badly."""
    with database.read() as session:
        return black_boxes.view(session, job_id, number)


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


@router.post("/{job_id}/sample")
def sample_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Answer the sample prompts now."""
    return _act(database, job_id, lambda session, job: control.sample(session, job, who))


@router.post("/{job_id}/priority")
def set_job_priority(database: DatabaseDep, job_id: int, who: Who, body: PriorityBody) -> dict[str, Any]:
    """Let it go before or after others."""
    return _act(database, job_id, lambda session, job: control.set_priority(session, job, body.priority, who))


@router.post("/{job_id}/move")
def move_job(database: DatabaseDep, job_id: int, who: Who, body: MoveBody) -> dict[str, Any]:
    """Put it at another place of the queue; it takes the priority of the job that it stands before."""
    if (body.before is None) == (body.position is None):
        raise wrong_field("before", "name one of before and position")
    return _act(database, job_id, lambda session, job: order.move(session, job, who, body.before, body.position))


@router.post("/{job_id}/preempt")
def preempt_job(database: DatabaseDep, job_id: int, who: Who) -> dict[str, Any]:
    """Save, and let the next job that its lane could take go first."""
    return _act(database, job_id, lambda session, job: order.preempt(session, job, who))


@router.post("/{job_id}/clone", status_code=201)
def clone_job(
    database: DatabaseDep, models: ModelsDep, job_id: int, who: Who, body: CloneBody | None = None
) -> dict[str, Any]:
    """A new job like this one but for what is given."""
    body = body or CloneBody()
    with database.write() as session:
        new = control.clone(session, jobs.get(session, job_id), body.config, who, body.changes())
        return jobs.view(session, estimates.attach(session, models, new))
