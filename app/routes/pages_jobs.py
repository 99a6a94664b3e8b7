"""Jobs as pages: the list, the form, one job with its regions, and the buttons."""

import json
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.db import Database, DatabaseDep
from app.errors import Conflict, DiskFull, WrongInput
from app.models import JobState
from app.routes import pages_data as data
from app.routes import pages_form
from app.routes.params import Cursor, ModelsDep, Who
from app.schemas import TINY_MODEL
from app.services import black_boxes, checkpoints, estimates, guardian, jobs
from app.services.base_models import BaseModels
from app.templating import render

PAGE_SIZE = 50
MAX_CHOICES = 200
ACTIONS = ("cancel", "pause", "resume", "retry", "save", "sample")
REGIONS = ("_head", "_progress", "_checkpoints", "_settings", "_gauges")

router = APIRouter(prefix="/jobs")
RepeatedJob = Annotated[int | None, Query(alias="from")]


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


@router.get("/new")
def show_form(
    request: Request, database: DatabaseDep, models: ModelsDep, dataset: int | None = None, repeat: RepeatedJob = None
) -> HTMLResponse:
    """The form: empty, for one dataset, or with the settings of another job."""
    with database.read() as session:
        source = jobs.get(session, repeat) if repeat is not None else None
        usable = _usable(session)
        dataset_id = source.dataset_id if source else dataset or (usable[0]["id"] if usable else None)
        model = source.model if source else models.default or TINY_MODEL
        form = pages_form.blank(model, dataset_id, source.config if source else None)
        return _form_page(request, session, models, form, {}, [])


def _usable(session: Session) -> list[dict[str, Any]]:
    return [one for one in data.dataset_views(session, MAX_CHOICES) if one["state"] in ("ready", "checking")]


def _form_page(
    request: Request,
    session: Session,
    models: BaseModels,
    form: dict[str, str],
    wrong: dict[str, str],
    problems: list[str],
    status_code: int = 200,
) -> HTMLResponse:
    views = _usable(session)
    context: dict[str, Any] = {
        "form": form,
        "errors": wrong,
        "problems": problems or (["Change the fields marked below; everything else is kept."] if wrong else []),
        "datasets": views,
        "dataset_choices": [(one["id"], _choice(one)) for one in views],
        "models": models.names(),
        "hub": models.hub,
        "advanced_open": bool(set(wrong) & pages_form.FURTHER_FIELDS) or _differs(form),
        "base_url": str(request.base_url).rstrip("/"),
    }
    shown = context | data.counts(session) | data.shell(session)
    return render(request, "jobs/new.html", status_code=status_code, **shown)


def _choice(dataset: dict[str, Any]) -> str:
    if dataset["num_valid"] is None:
        return f"{dataset['name']} (being checked)"
    return f"{dataset['name']} ({dataset['num_valid']:,} records)"


def _differs(form: dict[str, str]) -> bool:
    """Whether a setting of the closed part is not its default, so that it must be seen."""
    default = pages_form.blank("", None)
    return any(form[name] != default[name] for name in pages_form.FURTHER_FIELDS)


@router.post("", response_model=None)
async def add_job(request: Request, database: DatabaseDep, models: ModelsDep, who: Who) -> Response:
    """Queue the job of the form; where something is wrong, the form again with what was typed and why."""
    async with request.form() as sent:
        form = pages_form.read_form(sent)
    return await to_thread.run_sync(_add_job, request, database, models, who, form)


def _add_job(request: Request, database: Database, models: BaseModels, who: str, form: dict[str, str]) -> Response:
    try:
        with database.write() as session:
            new, config = jobs.read_new_job(session, pages_form.to_body(form), models)
            job_id = estimates.attach(session, models, jobs.create(session, new, config, who)).id
    except (WrongInput, Conflict, DiskFull) as error:
        errors, problems = pages_form.sort_errors(error.detail or [], form)
        if not errors and not problems:
            problems = [error.message]
        with database.read() as session:
            return _form_page(request, session, models, form, errors, problems, error.status_code)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.get("/{job_id}")
def show_job(request: Request, database: DatabaseDep, job_id: int) -> HTMLResponse:
    with database.read() as session:
        return render(request, "jobs/job.html", **data.job_page(session, job_id))


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


def _add_action(action: str) -> None:
    """A button twice: with script an empty answer that tells what was done, without it back to the job's page."""

    @router.post(f"/{{job_id}}/_{action}", name=f"{action}_job_live", response_model=None)
    async def act_live(request: Request, database: DatabaseDep, job_id: int, who: Who) -> Response:
        words = await _act(request, database, job_id, action, who)
        told = {"toast": {"kind": "ok", "text": words}, "state": {}}
        return Response(status_code=204, headers={"HX-Trigger": json.dumps(told)})

    @router.post(f"/{{job_id}}/{action}", name=f"{action}_job", response_model=None)
    async def act(request: Request, database: DatabaseDep, job_id: int, who: Who) -> Response:
        await _act(request, database, job_id, action, who)
        return RedirectResponse(f"/jobs/{job_id}", 303)


async def _act(request: Request, database: Database, job_id: int, action: str, who: str) -> str:
    async with request.form() as sent:
        save = sent.get("save", "true") != "false"

    def write() -> str:
        with database.write() as session:
            return data.act(session, job_id, action, who, save)

    return await to_thread.run_sync(write)


for _name in REGIONS:
    _add_region(_name)
for _name in ACTIONS:
    _add_action(_name)
