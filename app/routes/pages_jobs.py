"""Jobs as pages: the list, one job with its regions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from app.db import DatabaseDep
from app.models import JobState
from app.routes import pages_data as data
from app.routes import pages_history
from app.routes.params import Cursor
from app.services import black_boxes, checkpoints, guardian, jobs
from app.templating import render

PAGE_SIZE = 50
REGIONS = ("_head", "_progress", "_checkpoints", "_settings", "_gauges", "_memory")

router = APIRouter(prefix="/jobs")


@router.get("")
def list_jobs(
    request: Request, database: DatabaseDep, state: JobState | None = None, after: Cursor = None
) -> HTMLResponse:
    """Jobs, newest first."""
    with database.read() as session:
        context = _rows(request, session, state, after)
        return render(request, "jobs/list.html", **context, **data.shell(session))


@router.get("/_rows")
def list_job_rows(
    request: Request, database: DatabaseDep, state: JobState | None = None, after: Cursor = None
) -> HTMLResponse:
    with database.read() as session:
        return render(request, "jobs/_rows.html", **_rows(request, session, state, after))


def _rows(request: Request, session: Session, state: JobState | None, after: int | None) -> dict[str, Any]:
    rows = data.job_rows(session, jobs.page(session, PAGE_SIZE, after, state))
    query = f"?{request.url.query}" if request.url.query else ""
    more = {"next_url": data.next_url(request, rows, PAGE_SIZE), "rows_url": f"/jobs/_rows{query}"}
    return {"rows": rows, "state": state, "state_words": data.STATES} | more


@router.get("/{job_id}")
def show_job(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    with database.read() as session:
        shown = data.job_page(session, job_id) | pages_history.of_job(session, job_id)
        return render(request, "jobs/job.html", **shown)


@router.get("/{job_id}/_stop")
def show_stop(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    """What stands in the dialog before a job is stopped."""
    with database.read() as session:
        job = jobs.view(session, jobs.get(session, job_id))
        return render(request, "jobs/_stop.html", job=job, checkpoints=checkpoints.view_all(session, job_id))


@router.get("/{job_id}/_samples")
def show_samples(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    with database.read() as session:
        job = jobs.view(session, jobs.get(session, job_id))
        return render(request, "jobs/_samples.html", job=job, samples=data.samples(session, job_id))


@router.get("/{job_id}/_history")
def show_history(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    with database.read() as session:
        job = jobs.view(session, jobs.get(session, job_id))
        return render(request, "jobs/_history.html", job=job, **pages_history.of_job(session, job_id))


@router.get("/{job_id}/_advice")
def show_advice(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    with database.read() as session:
        job = jobs.view(session, jobs.get(session, job_id))
        return render(request, "jobs/_advice.html", job=job, advice=guardian.newest(session, job_id))


@router.get("/{job_id}/_black_box")
def show_black_box(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    """What was last seen of the newest attempt that ended badly; nothing where none did."""
    with database.read() as session:
        job = jobs.view(session, jobs.get(session, job_id))
        return render(request, "jobs/_black_box.html", job=job, black_box=black_boxes.newest(session, job_id))


def _add_region(region: str) -> None:
    @router.get(f"/{{job_id}}/{region}", name=f"show_job{region}")
    def show_region(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
        with database.read() as session:
            return render(request, f"jobs/{region}.html", **data.job_head(session, job_id))


for _name in REGIONS:
    _add_region(_name)
