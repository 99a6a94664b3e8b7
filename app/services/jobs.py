"""Jobs: made, listed, shown. What people ask of a job is in `control`, what workers report in `attempts`."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError
from sqlalchemy import func
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.db import announce_work
from app.deeds import CENTER
from app.errors import Conflict, NotFound, WrongInput, wrong_field
from app.hub import iso
from app.models import PRIORITIES, Dataset, History, Job, JobState, Lane, Node
from app.schemas import TrainingConfig, field_errors, read_config
from app.services import events, forecast, ids, parents, places, recipes, waiting
from app.services.base_models import BaseModels
from app.services.known import Known
from app.services.new_job import NewJob, Priority
from app.services.trashed import refuse_trashed, shown

PRIORITY_NAMES: dict[int, Priority] = {PRIORITIES[name]: name for name in get_args(Priority)}


def read_new_job(session: Session, body: Any, models: BaseModels) -> tuple[NewJob, TrainingConfig]:
    """Check a body whole; raises `WrongInput` that names every wrong field at once."""
    if not isinstance(body, dict):
        raise WrongInput("The body must be a JSON object.", [{"field": "body", "message": "must be a JSON object"}])
    wrong: list[dict[str, str]] = []
    known = {key: value for key, value in body.items() if value is not None}
    if "recipe" in known and isinstance(known.get("config", {}), dict):
        try:
            known["config"] = recipes.config_of(session, known["recipe"]) | known.get("config", {})
        except WrongInput as error:
            wrong += error.detail
            del known["recipe"]
    new, config = None, None
    try:
        new = NewJob.model_validate(known)
    except ValidationError as error:
        found = field_errors(error)
        # Of a mixture that cannot be read nobody knows the first dataset, which is no fault of its own.
        wrong += [one for one in found if one["field"] != "dataset_id" or "datasets" not in known or len(found) == 1]
    if isinstance(known.get("config", {}), dict):
        try:
            config = read_config(known.get("config", {}))
        except WrongInput as error:
            wrong += error.detail
    if isinstance(known.get("model"), str) and known["model"] and (problem := models.problem(known["model"])):
        wrong.append({"field": "model", "message": problem})
    wrong += _unknown_datasets(session, known) + _unknown_jobs(session, new)
    if wrong or new is None or config is None:
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong)
    return new, config


def _unknown_datasets(session: Session, body: dict[str, Any]) -> list[dict[str, str]]:
    """The datasets that are named and not there; a value that is no id is somebody else's finding."""
    config = body.get("config")
    named = {"dataset_id": body.get("dataset_id")}
    mixed = body.get("datasets")
    for place, one in enumerate(mixed if isinstance(mixed, list) else ()):
        named[f"datasets.{place}.id"] = one.get("id") if isinstance(one, dict) else None
    if isinstance(config, dict):
        named["config.validation_dataset_id"] = config.get("validation_dataset_id")
    texts = {field: str(value) for field, value in named.items()}
    ids = {field: int(text[:20]) for field, text in texts.items() if text.isascii() and text.isdigit()}
    absent = {field: value for field, value in ids.items() if value > 2**53 or session.get(Dataset, value) is None}
    return [{"field": field, "message": f"there is no dataset {value}"} for field, value in absent.items()]


def _unknown_jobs(session: Session, new: NewJob | None) -> list[dict[str, str]]:
    absent = [one for one in (new.depends_on if new else []) if session.get(Job, one) is None]
    return [{"field": "depends_on", "message": f"there is no job {one}"} for one in absent]


def create(session: Session, new: NewJob, config: TrainingConfig, who: str) -> Job:
    """Queue a job; raises `Conflict` for a dataset or an adapter that cannot be used."""
    config = checked(session, new, config)
    dataset = session.get_one(Dataset, new.dataset_id)
    job = Job(
        id=ids.fresh(session, Job),
        kind=new.kind,
        name=_printable(new.name or "")
        or f"{dataset.name.rsplit('.', 1)[0][:90]} on {new.model.rsplit('/', 1)[-1][:90]}",
        dataset_id=new.dataset_id,
        datasets=[one.model_dump() for one in new.datasets] if new.datasets else None,
        model=new.model,
        config=config.model_dump(),
        from_adapter_id=new.from_adapter,
        priority=PRIORITIES[new.priority],
        place=places.next_place(session),
        retries=new.retries,
        needs=new.needs.as_kept() if new.needs else None,
        depends_on=sorted(set(new.depends_on)),
        start_after=new.start_after,
        max_duration_s=new.max_duration_s,
    )
    session.add(job)
    session.flush()
    note(session, job, who, "create", {"recipe": new.recipe} if new.recipe else None)
    events.record_state(session, job, "Added to the queue")
    announce_queue(session, job)
    announce_work(session)
    return job


def _printable(name: str) -> str:
    """A name without what would garble a terminal or a page: control characters and marks of direction."""
    return "".join(c for c in name if c.isprintable()).strip()


def checked(session: Session, new: NewJob, config: TrainingConfig) -> TrainingConfig:
    """The configuration as the job will have it, once all that the job names is there and can be used."""
    trained = [usable_dataset(session, dataset_id) for dataset_id in new.dataset_ids]
    for one in new.depends_on:
        if (other := session.get(Job, one)) is None:
            raise wrong_field("depends_on", f"there is no job {one}")
        if other.state in (JobState.FAILED, JobState.CANCELLED):
            raise Conflict(f"Job {one} is {other.state}, so nothing can wait for it: resume or retry it first.")
    if new.from_adapter is not None:
        config = parents.take_up(session, new.from_adapter, new.model, new.config, config)
    _check_validation(session, trained, config)
    return config


def _check_validation(session: Session, trained: Sequence[Dataset], config: TrainingConfig) -> None:
    if config.validation_dataset_id is None:
        nums_valid = [one.num_valid for one in trained]
        total = sum(one or 0 for one in nums_valid)
        if None not in nums_valid and (config.validation_count or 0) >= max(total, 1):
            message = f"must be below {total:,}, the number of records that can be trained"
            raise wrong_field("config.validation_count", message)
        return
    usable_dataset(session, config.validation_dataset_id)
    if config.validation_dataset_id in [one.id for one in trained]:
        message = "is trained on: choose another dataset, or keep a share of this one aside with `validation_share`"
        raise wrong_field("config.validation_dataset_id", message)


def usable_dataset(session: Session, dataset_id: int) -> Dataset:
    """A dataset that a job may wait for or train on; raises `Conflict` for any other."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    refuse_trashed(dataset)
    if dataset.state in ("refused", "failed"):
        raise Conflict(f"Dataset {dataset_id} is {dataset.state}: {dataset.error}")
    return dataset


def get(session: Session, job_id: int) -> Job:
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def note(session: Session, job: Job, who: str, action: str, detail: dict[str, Any] | None = None) -> None:
    """Write down who did what to the job."""
    assert job.id is not None
    session.add(History(job_id=job.id, who=who, action=action, detail=detail))


def announce_queue(session: Session, *changed: Job) -> None:
    rows = [{"id": j.id, "name": j.name, "state": j.state, "priority": PRIORITY_NAMES[j.priority]} for j in changed]
    events.record(session, "queue", {"jobs": rows})


def become(session: Session, job: Job, state: JobState, message: str = "", **more: Any) -> None:
    """Move the job to a state the table allows; raises `Conflict` otherwise. What waits for it falls with it."""
    _enter(session, job, state, message, **more)
    if state in (JobState.FAILED, JobState.CANCELLED):
        for dependent, cause in waiting.dependents(session, job):
            _fall(session, dependent, cause)
    elif state is JobState.SUCCEEDED:
        announce_work(session)


def _fall(session: Session, dependent: Job, cause: int) -> None:
    ended = get(session, cause).state
    dependent.error = {
        "code": "dependency_failed",
        "message": f"It waited for job {cause}, which {'failed' if ended == JobState.FAILED else 'was cancelled'}.",
        "advice": "Duplicate this job and choose anew what it waits for (by REST: clone it with `depends_on`).",
    }
    note(session, dependent, CENTER, "dependency", {"job": cause})
    _enter(session, dependent, JobState.CANCELLED, dependent.error["message"])


def _enter(session: Session, job: Job, state: JobState, message: str = "", **more: Any) -> None:
    if not JobState(job.state).may_become(state):
        raise Conflict(f"Job {job.id} is {job.state} and cannot become {state}.")
    job.state = state
    if state is JobState.QUEUED:
        job.ended_at, job.phase, job.lane_id = None, None, None
        announce_work(session)
    elif state not in (JobState.CLAIMED, JobState.RUNNING):
        job.ended_at = utc_now() if state is not JobState.PAUSED else None
        job.phase, job.lane_id, job.eta_s = None, None, None
    if state not in (JobState.CLAIMED, JobState.RUNNING):
        job.asked, job.stop_now, job.lease_until = None, False, None
        job.save_asked = job.sample_asked = False
        job.makes_way_for = None
    session.add(job)
    events.record_state(session, job, message, **more)
    announce_queue(session, job)


def in_queue_order(session: Session, limit: int | None = None) -> list[Job]:
    """Queued jobs, next first: by priority, then place."""
    return list(session.exec(select(Job).where(Job.state == JobState.QUEUED).order_by(*waiting.ORDER).limit(limit)))


def num_queued(session: Session) -> int:
    return session.exec(select(func.count()).where(Job.state == JobState.QUEUED)).one()


def lane_name(session: Session, lane_id: int | None) -> str | None:
    """The lane as people know it: node/lane."""
    lane = session.get(Lane, lane_id) if lane_id else None
    node = session.get(Node, lane.node_id) if lane else None
    return f"{node.name}/{lane.name}" if lane and node else None


def views(session: Session, rows: Sequence[Job]) -> list[dict[str, Any]]:
    """Many jobs as the contract shows them, in a handful of queries."""
    known, seen = Known.of(session, rows), forecast.outlook(session, rows)
    return [_view(session, row, known, seen) for row in rows]


def view(session: Session, job: Job) -> dict[str, Any]:
    """The job as the contract shows it."""
    return views(session, [job])[0]


def _view(session: Session, job: Job, known: Known, seen: forecast.Outlook) -> dict[str, Any]:
    assert job.id is not None
    start, end = seen.spans.get(job.id, (None, None))
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "asked": job.asked,
        "phase": job.phase,
        "waiting_for": seen.waiting_for(session, job),
        "position": seen.positions.get(job.id),
        "priority": PRIORITY_NAMES[job.priority],
        "attempt": job.attempt,
        "step": job.step,
        "num_steps": job.num_steps,
        "epoch": job.epoch,
        "eta_s": job.eta_s,
        "expected_start_at": iso(start),
        "expected_end_at": iso(end),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "ended_at": iso(job.ended_at),
        "dataset_ids": [one["id"] for one in job.datasets] if job.datasets else [job.dataset_id],
        "datasets": job.datasets,
        "model": job.model,
        "config": job.config | {k: v for k, v in job.resolved.items() if k in job.config},
        "resolved": job.resolved,
        "from_adapter": job.from_adapter_id,
        "estimate": job.estimate,
        "retries": job.retries,
        "needs": job.needs,
        "depends_on": job.depends_on,
        "start_after": iso(job.start_after),
        "max_duration_s": job.max_duration_s,
        "makes_way_for": job.makes_way_for,
        "lane": lane_name(session, job.lane_id),
        "adapter_id": known.adapters.get(job.id),
        "last_event_id": known.last_events.get(job.id, 0),
        "error": job.error,
        "trashed_at": iso(job.trashed_at),
    }


def page(session: Session, limit: int, after: int | None, state: str | None = None, trashed: bool = False) -> list[Job]:
    """Jobs, newest first; those in the trash, or all others."""
    query = select(Job).where(shown(Job, trashed)).order_by(col(Job.id).desc()).limit(limit)
    if after is not None:
        query = query.where(col(Job.id) < after)
    if state is not None:
        query = query.where(Job.state == state)
    return list(session.exec(query))


def history(session: Session, job_id: int, limit: int | None = None, after: int | None = None) -> list[History]:
    """Who did what, oldest first."""
    get(session, job_id)
    query = select(History).where(History.job_id == job_id, col(History.id) > (after or 0))
    return list(session.exec(query.order_by(col(History.id)).limit(limit)))


def history_view(row: History) -> dict[str, Any]:
    return {"at": iso(row.at), "who": row.who, "action": row.action, "detail": row.detail}
