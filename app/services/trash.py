"""The trash: what is thrown away can be taken back until it expires; `purge` is where files go for good."""

from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, or_, text
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.errors import Conflict, NotFound
from app.hub import iso
from app.models import HELD, PRIORITIES, Adapter, Checkpoint, Dataset, History, Job, JobState
from app.services import events, retention, waiting
from app.services.trashed import GONE, Thing, label, shown

Kind = Literal["dataset", "job", "checkpoint", "adapter"]
TABLES: dict[Kind, Any] = {
    "dataset": Dataset,
    "job": Job,
    "checkpoint": Checkpoint,
    "adapter": Adapter,
}
UNDER_WAY = (JobState.QUEUED, *HELD, JobState.PAUSED)


def get(session: Session, kind: Kind, number: int) -> Thing:
    thing: Thing | None = session.get(TABLES[kind], number)
    if thing is None:
        raise NotFound(f"There is no {kind} {number}.")
    return thing


def move(session: Session, thing: Thing, who: str) -> None:
    """Into the trash; raises `Conflict` while a job needs it. What lies there already stays as it is."""
    if thing.trashed_at is not None:
        return
    if user := _user(session, thing):
        raise Conflict(f"{label(thing)} cannot go: {user}.")
    thing.trashed_at = utc_now()
    _settle(session, thing, who, "trash")


def restore(session: Session, thing: Thing, who: str) -> None:
    """Out of the trash again; raises `Conflict` where its files are gone for good."""
    if thing.trashed_at == GONE:
        raise Conflict(f"{label(thing)} was deleted for good and cannot come back.")
    if thing.trashed_at is not None:
        thing.trashed_at = None
        _settle(session, thing, who, "restore")


def _settle(session: Session, thing: Thing, who: str, action: str) -> None:
    session.add(thing)
    if isinstance(thing, Job | Checkpoint):
        job_id = (thing.job_id if isinstance(thing, Checkpoint) else thing.id) or 0
        detail = {"checkpoint": thing.id, "step": thing.step} if isinstance(thing, Checkpoint) else None
        session.add(History(job_id=job_id, who=who, action=action, detail=detail))
    session.flush()
    announce(session, thing)


def announce(session: Session, thing: Thing) -> None:
    """Tell the lists that show it."""
    if isinstance(thing, Dataset):
        short = ("id", "name", "state", "progress", "num_records", "num_valid", "error")
        events.record(session, "dataset", {key: getattr(thing, key) for key in short})
        return
    job = thing if isinstance(thing, Job) else session.get_one(Job, thing.job_id)
    priority = next(name for name, number in PRIORITIES.items() if number == job.priority)
    events.record(
        session, "queue", {"jobs": [{"id": job.id, "name": job.name, "state": job.state, "priority": priority}]}
    )


def _user(session: Session, thing: Thing) -> str | None:
    """Who needs it now, as the end of a sentence."""
    if isinstance(thing, Dataset):
        return _user_of_dataset(session, thing)
    if isinstance(thing, Adapter):
        job = _under_way(session, col(Job.from_adapter_id) == thing.id)
        return f"job {job.id} goes on from it and is {job.state}" if job else None
    if isinstance(thing, Job):
        return _user_of_job(session, thing)
    return _user_of_checkpoint(session, thing)


def _user_of_job(session: Session, job: Job) -> str | None:
    if job.state in (JobState.QUEUED, *HELD):
        return f"it is {job.state}; cancel it first"
    # Once it is gone nothing but its absence is left, which counts as a success.
    waits = None if job.state == JobState.SUCCEEDED else next(iter(waiting.dependents(session, job)), None)
    return f"job {waits[0].id} waits for it" if waits else None


def _user_of_dataset(session: Session, dataset: Dataset) -> str | None:
    if dataset.state == "checking":
        return "it is still being checked"
    job = _under_way(session, reads(dataset.id))
    return f"job {job.id} needs it and is {job.state}" if job else None


def reads(dataset_id: int | None) -> ColumnElement[bool]:
    """A condition on `Job`: it trains on the dataset, alone or among others, or validates with it."""
    mixed = text("EXISTS (SELECT 1 FROM json_each(job.datasets) WHERE json_extract(value, '$.id') = :mixed)")
    return or_(
        col(Job.dataset_id) == dataset_id,
        col(Job.config)["validation_dataset_id"].as_integer() == dataset_id,
        mixed.bindparams(mixed=dataset_id),
    )


def _under_way(session: Session, condition: ColumnElement[bool]) -> Job | None:
    query = select(Job).where(condition, col(Job.state).in_(UNDER_WAY), col(Job.trashed_at).is_(None))
    return session.exec(query.order_by(col(Job.id)).limit(1)).first()


def _user_of_checkpoint(session: Session, checkpoint: Checkpoint) -> str | None:
    job = session.get_one(Job, checkpoint.job_id)
    if job.state not in UNDER_WAY:
        return None
    if job.state in HELD:
        return f"job {job.id} is {job.state}; pause or stop it first"
    newer = (
        select(Checkpoint.id)
        .where(Checkpoint.job_id == job.id, Checkpoint.step > checkpoint.step, col(Checkpoint.complete).is_(True))
        .where(col(Checkpoint.retired).is_(False), col(Checkpoint.superseded).is_(False))
        .where(col(Checkpoint.trashed_at).is_(None))
    )
    return None if session.exec(newer).first() else f"job {job.id} is {job.state} and goes on from it"


def contents(session: Session) -> list[tuple[Kind, Thing]]:
    """All that can still be taken back, newest first."""
    found: list[tuple[Kind, Thing]] = []
    for kind, table in TABLES.items():
        found += [(kind, one) for one in session.exec(select(table).where(shown(table, trashed=True)))]
    return sorted(found, key=lambda pair: (pair[1].trashed_at or GONE, pair[1].id or 0), reverse=True)


def view_all(session: Session) -> list[dict[str, Any]]:
    keep = timedelta(days=retention.read(session).trash_days)
    return [_view(session, kind, thing, keep) for kind, thing in contents(session)]


def _view(session: Session, kind: Kind, thing: Thing, keep: timedelta) -> dict[str, Any]:
    assert thing.trashed_at is not None
    name = f"step {thing.step} of job {thing.job_id}" if isinstance(thing, Checkpoint) else thing.name
    return {
        "kind": kind,
        "id": thing.id,
        "job_id": thing.job_id if isinstance(thing, Checkpoint | Adapter) else None,
        "name": name,
        "size": size_of_job(session, thing) if isinstance(thing, Job) else thing.size,
        "trashed_at": iso(thing.trashed_at),
        "expires_at": iso(thing.trashed_at + keep),
    }


def size_of_job(session: Session, job: Job) -> int:
    """Bytes of the checkpoints that go along with it."""
    query = select(Checkpoint).where(Checkpoint.job_id == job.id, col(Checkpoint.complete).is_(True))
    return sum(one.size for one in session.exec(query))
