"""The form of a new job, and what that job would take: a card that is drawn anew while the form is filled in."""

from collections.abc import Iterable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session, col, select
from starlette.responses import Response

from app.db import Database, DatabaseDep
from app.errors import AppError, Conflict, DiskFull, WrongInput
from app.models import ENDED, Job
from app.routes import pages_data as data
from app.routes import pages_form, setting_words
from app.routes.pages_back import lead_back
from app.routes.params import ModelsDep, Who
from app.schemas import TINY_MODEL
from app.services import estimates, jobs, rechecks, recipes
from app.services.base_models import BaseModels
from app.templating import render

MAX_CHOICES = 200
MAX_CHANGES = 4
SMALL = 2**30  # below so many bytes nobody asks for less work
# Every field, as the form names it.
LABELS = setting_words.LABELS | {
    "dataset_id": "Dataset",
    "model": "Base model",
    "mixture": "More datasets",
    "name": "Name",
    "priority": "Priority",
    "retries": "Retries after a fault",
    "start_after": "Not before",
    "depends_on": "After these jobs",
    "max_hours": "Longest duration",
    "needs_gpus": "GPUs",
    "needs_memory": "Memory of a GPU",
    "needs_labels": "Labels",
    "needs_node": "Node",
    "zone": "Time zone",
    "recipe_name": "Name",
}

router = APIRouter(prefix="/jobs", include_in_schema=False, default_response_class=HTMLResponse)
RepeatedJob = Annotated[int | None, Query(alias="from")]


@router.get("/new")
def show_form(
    request: Request,
    database: DatabaseDep,
    models: ModelsDep,
    dataset: int | None = None,
    repeat: RepeatedJob = None,
    recipe: str | None = None,
) -> HTMLResponse:
    """The form: empty, for one dataset, with the settings of another job, or with those of a recipe."""
    with database.read() as session:
        source = jobs.get(session, repeat) if repeat is not None else None
        usable = _usable(session)
        dataset_id = source.dataset_id if source else dataset or (usable[0]["id"] if usable else None)
        model = source.model if source else models.default or TINY_MODEL
        if source is None and recipe is None:
            recipe = recipes.default_name(session, request.app.state.settings.default_recipe)
        settings = jobs.view(session, source) if source else recipes.view(session, recipe) if recipe else None
        form = pages_form.blank(model, dataset_id, settings) | {"recipe_name": recipe or ""}
        return _form_page(request, session, models, form, {}, [])


@router.post("/_recipe")
async def save_recipe(request: Request, database: DatabaseDep, models: ModelsDep, who: Who) -> HTMLResponse:
    """Keep the training settings of the form under a name; the form stays as it is."""
    async with request.form() as sent:
        form = pages_form.read_form(sent)
    return await to_thread.run_sync(_save_recipe, request, database, models, who, form)


def _save_recipe(
    request: Request, database: Database, models: BaseModels, who: str, form: dict[str, str]
) -> HTMLResponse:
    name = form["recipe_name"]
    config = recipes.of_job(pages_form.to_body(form)["config"])
    try:
        with database.write() as session:
            replaced = any(one["name"] == name for one in recipes.views(session))
            recipes.save(session, name, {"config": config}, who)
    except WrongInput as error:
        detail = [one | {"field": "recipe_name"} if one["field"] == "name" else one for one in error.detail or []]
        errors, problems = pages_form.sort_errors(detail, form)
        with database.read() as session:
            return _form_page(request, session, models, form, errors, problems, error.status_code, what="The recipe")
    note = f"The settings are kept as the recipe {name}{', in place of what it held' if replaced else ''}."
    with database.read() as session:
        return _form_page(request, session, models, form, {}, [], note=note)


@router.post("/_from_recipe")
async def use_recipe(request: Request, database: DatabaseDep, models: ModelsDep) -> HTMLResponse:
    """The form with the settings of a recipe; what is no setting of the training stays as it was typed."""
    async with request.form() as sent:
        form, name = pages_form.read_form(sent), str(sent.get("from_recipe", ""))
    return await to_thread.run_sync(_use_recipe, request, database, models, form, name)


def _use_recipe(
    request: Request, database: Database, models: BaseModels, form: dict[str, str], name: str
) -> HTMLResponse:
    with database.read() as session:
        settings = pages_form.settings_of(recipes.view(session, name)) | {"recipe_name": name}
        note = f"The training settings are those of the recipe {name}."
        return _form_page(request, session, models, form | settings, {}, [], note=note)


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
    note: str = "",
    what: str = "The job",
) -> HTMLResponse:
    views = _usable(session)
    context: dict[str, Any] = {
        "form": form,
        "errors": wrong,
        "problems": problems or (["Change the fields marked below; everything else is kept."] if wrong else []),
        "datasets": views,
        "dataset_choices": [(one["id"], _choice(one)) for one in views],
        "recipes": recipes.names(session),
        "note": note,
        "what": what,
        "models": models.names(),
        "hub": models.hub,
        "advanced_open": bool(set(wrong) & pages_form.FURTHER_FIELDS) or _differs(form, pages_form.FURTHER_FIELDS),
        "schedule_open": bool(set(wrong) & pages_form.SCHEDULE_FIELDS.keys())
        or _differs(form, pages_form.SCHEDULE_FIELDS),
        "unfinished": _unfinished(session),
        "base_url": str(request.base_url).rstrip("/"),
    }
    shown = context | data.counts(session) | data.shell(session) | card(session, models, form)
    return render(request, "jobs/new.html", status_code=status_code, **shown)


def _choice(dataset: dict[str, Any]) -> str:
    name = f"#{dataset['id']} {dataset['name']}"
    return f"{name} (being checked)" if dataset["num_valid"] is None else f"{name} ({dataset['num_valid']:,} records)"


def _differs(form: dict[str, str], names: Iterable[str]) -> bool:
    """Whether a setting of a closed part is not its default, so that it must be seen."""
    default = pages_form.blank("", None)
    return any(form[name] != default[name] for name in names if name != "zone")


def _unfinished(session: Session) -> list[Job]:
    """Jobs that another may wait for, newest first."""
    query = select(Job).where(col(Job.state).not_in(ENDED)).order_by(col(Job.id).desc())
    return list(session.exec(query.limit(MAX_CHOICES)))


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


def card(session: Session, models: BaseModels, form: dict[str, str]) -> dict[str, Any]:
    """The estimate of what the form asks for, or the sentences that say why there is none."""
    try:
        new, config = jobs.read_new_job(session, pages_form.to_body(form), models)
        found = estimates.of_new_job(session, models, new, config)
    except AppError as error:
        by_field, others = pages_form.sort_errors(error.detail or [], form)
        named = [f"{LABELS[name]}: {words}" for name, words in by_field.items()]
        return {"estimate": None, "choices": [], "reasons": named + others or [error.message]}
    leakage = rechecks.leakage(session, config.validation_dataset_id, new.dataset_ids)
    return {"estimate": found, "choices": _changes(found), "reasons": [], "leakage": leakage}


def _changes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Changes that a button carries out: what would fit, or what would be faster and fits as well."""
    offered = found["would_fit"][:MAX_CHANGES]
    if found.get("bf16_fits") and found["memory"]["total"] > SMALL:
        offered = [*offered, {"config": {"use_qlora": False}, "total": None}]
    return [one | {"words": ", ".join(_words(*pair) for pair in one["config"].items())} for one in offered]


def _words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{LABELS[name]} {'on' if value else 'off'}"
    return f"{LABELS[name]} {value if isinstance(value, str) else f'{value:,}'}"


@router.post("/_estimate")
async def show_estimate(request: Request, database: DatabaseDep, models: ModelsDep) -> HTMLResponse:
    async with request.form() as sent:
        form = pages_form.read_form(sent)
    return await to_thread.run_sync(_show, request, database, models, form)


def _show(request: Request, database: Database, models: BaseModels, form: dict[str, str]) -> HTMLResponse:
    with database.read() as session:
        return render(request, "jobs/_estimate.html", **card(session, models, form))


for _name in ("_recipe", "_from_recipe"):
    lead_back(router, f"/{_name}", "/jobs/new")
