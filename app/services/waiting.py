"""Which queued jobs may be claimed, in which order, and what the others wait for."""

import json
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, or_, text, tuple_
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.hub import iso
from app.models import Dataset, Job, JobState, Lane, Node
from app.services import room
from app.services.needs import fits, missing_lane

ORDER = (col(Job.priority), col(Job.place), col(Job.id))
UNREADY = ("receiving", "checking")
NO_JOBS = "[]"
ALL_SUCCEEDED = """NOT EXISTS (
    SELECT 1 FROM json_each(job.depends_on) AS one JOIN job AS other ON other.id = one.value
    WHERE other.state != 'succeeded')"""
MIXED_READY = """NOT EXISTS (
    SELECT 1 FROM json_each(job.datasets) AS one JOIN dataset ON dataset.id = json_extract(one.value, '$.id')
    WHERE dataset.state IN ('receiving', 'checking'))"""
Needs = dict[str, Any] | None


def dataset_ids(job: Job) -> set[int]:
    """The datasets a job reads: those it trains on, and one of its own for validation."""
    validation_id = job.config.get("validation_dataset_id")
    mixed = {one["id"] for one in job.datasets or ()}
    return {job.dataset_id, *mixed} if validation_id is None else {job.dataset_id, *mixed, validation_id}


def _ready(session: Session) -> list[ColumnElement[bool]]:
    """Queued, and waiting for nothing but a lane."""
    unready = select(Dataset.id).where(col(Dataset.state).in_(UNREADY))
    validation_id = col(Job.config)["validation_dataset_id"].as_integer()
    return [
        col(Job.state) == JobState.QUEUED,
        col(Job.dataset_id).not_in(unready),
        or_(validation_id.is_(None), validation_id.not_in(unready)),
        or_(col(Job.datasets).is_(None), text(MIXED_READY)),
        or_(col(Job.start_after).is_(None), col(Job.start_after) <= utc_now()),
        or_(cast(col(Job.depends_on), String) == NO_JOBS, text(ALL_SUCCEEDED)),
        room.fits(session),
    ]


def ready_jobs(session: Session) -> Generator[tuple[int, Needs], None, None]:
    """(id, needs) of the jobs that may be claimed, next first; read as far as somebody asks."""
    # Plain columns by way of the connection, which alone reads no further than is asked for.
    query = select(Job.id, cast(col(Job.needs), String)).where(*_ready(session)).order_by(*ORDER)
    session.flush()
    known: dict[str, Needs] = {}
    with closing(session.connection().execute(query)) as rows:
        for job_id, needs in rows:
            if needs is not None and needs not in known:
                known[needs] = json.loads(needs)
            yield job_id or 0, known[needs] if needs is not None else None


def first_for(session: Session, lane: Lane) -> Job | None:
    """The next job that the lane could take, whether or not the queue is open."""
    node = session.get_one(Node, lane.node_id)
    with closing(ready_jobs(session)) as waiting:
        found = next((job_id for job_id, needs in waiting if fits(needs, lane, node.name)), None)
    return session.get_one(Job, found) if found is not None else None


def lanes_for_ready_jobs(session: Session, idle: Sequence[Lane]) -> list[Lane]:
    """The idle lanes to wake: one for each job that may be claimed, the smallest that fits it."""
    if not idle or session.exec(select(Job.id).where(Job.state == JobState.QUEUED).limit(1)).first() is None:
        return []  # most often; to ask what is ready costs several times as much
    left = sorted(idle, key=lambda lane: (len(lane.gpus), sum(gpu.get("memory") or 0 for gpu in lane.gpus)))
    names = {lane.id: session.get_one(Node, lane.node_id).name for lane in left}
    chosen: list[Lane] = []
    with closing(ready_jobs(session)) as waiting:
        for _, needs in waiting:
            lane = next((one for one in left if fits(needs, one, names[one.id])), None)
            if lane is not None:
                left.remove(lane)
                chosen.append(lane)
            if not left:
                break
    return chosen


def positions(session: Session, ids: Iterable[int]) -> dict[int, int]:
    """The place in the order of claiming, 1 = next, of those of the jobs that are queued."""
    ranked = select(Job.id, func.row_number().over(order_by=ORDER).label("position"))
    numbered = ranked.where(Job.state == JobState.QUEUED).subquery()
    query = select(numbered.c.id, numbered.c.position).where(numbered.c.id.in_(list(ids)))
    return dict(session.exec(query).all())


def position_of(session: Session, job: Job) -> int | None:
    """The place in the order of claiming, 1 = next."""
    if job.state != JobState.QUEUED:
        return None
    before = select(func.count()).where(
        Job.state == JobState.QUEUED, tuple_(*ORDER) < (job.priority, job.place, job.id)
    )
    return session.exec(before).one() + 1


def page(session: Session, limit: int, after: Job | None = None) -> list[Job]:
    """Queued jobs in the order of claiming, from the one after `after` on."""
    query = select(Job).where(Job.state == JobState.QUEUED).order_by(*ORDER).limit(limit)
    if after is not None:
        query = query.where(tuple_(*ORDER) > (after.priority, after.place, after.id))
    return list(session.exec(query))


def unready_datasets(session: Session) -> frozenset[int]:
    found = session.exec(select(Dataset.id).where(col(Dataset.state).in_(UNREADY)))
    return frozenset(one for one in found if one is not None)


def reason(
    session: Session, job: Job, unready: frozenset[int], lanes: Sequence[tuple[Lane, str]]
) -> dict[str, Any] | None:
    """What keeps a queued job of its own from being claimed; None where it is ready."""
    for dataset_id in sorted(dataset_ids(job) & unready):
        is_lost = session.get_one(Dataset, dataset_id).state == "receiving"
        message = (
            "waits for the file of dataset {}, which is not here" if is_lost else "waits until dataset {} is checked"
        )
        return {"kind": "dataset", "id": dataset_id, "message": message.format(dataset_id)}
    for other_id in job.depends_on:
        other = session.get(Job, other_id)
        if other is not None and other.state != JobState.SUCCEEDED:
            return {"kind": "job", "id": other_id, "message": f"waits for job {other_id} to succeed"}
    if job.start_after is not None and job.start_after > utc_now():
        return {"kind": "time", "until": iso(job.start_after), "message": f"waits until {_when(job)}"}
    missing = missing_lane(job.needs, lanes)
    return {"kind": "lane", "message": missing} if missing is not None else None


def _when(job: Job) -> str:
    assert job.start_after is not None
    return f"{job.start_after:%Y-%m-%d %H:%M} UTC"


def dependents(session: Session, job: Job) -> list[tuple[Job, int]]:
    """All queued jobs that wait for this one, also by way of others, each with the job that holds it up."""
    waiting = select(Job).where(Job.state == JobState.QUEUED, cast(col(Job.depends_on), String) != NO_JOBS)
    after: dict[int, list[Job]] = defaultdict(list)
    for one in session.exec(waiting.order_by(*ORDER)):
        for number in one.depends_on:
            after[number].append(one)
    found: dict[int, tuple[Job, int]] = {}
    reached = [job.id or 0]
    for number in reached:
        for one in after[number]:
            if one.id is not None and one.id not in found:
                found[one.id] = (one, number)
                reached.append(one.id)
    return list(found.values())
