"""What the views of several jobs need besides their rows, read at once: a list must not ask for each line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.models import Adapter, Dataset, Event, Job, Lane, Node


@dataclass(frozen=True)
class Known:
    """By the id of a job. `held` are rows that the session finds again by their keys while this lives."""

    adapters: dict[int, int | None]
    last_events: dict[int, int]
    held: list[Any]

    @classmethod
    def of(cls, session: Session, jobs: Sequence[Job]) -> "Known":
        ids = [job.id for job in jobs if job.id is not None]
        adapters = session.exec(select(Adapter.job_id, Adapter.id).where(col(Adapter.job_id).in_(ids)))
        return cls(dict(adapters.all()), _last_events(session, ids), _rows(session, jobs))


def _last_events(session: Session, ids: list[int]) -> dict[int, int]:
    """One look at the end of the index for each job: a grouped query would walk through all their events."""
    newest = select(func.max(Event.id)).where(Event.job_id == Job.id).scalar_subquery()
    found = session.exec(select(Job.id, newest).where(col(Job.id).in_(ids)))
    return {number: last or 0 for number, last in found if number is not None}


def _rows(session: Session, jobs: Sequence[Job]) -> list[Any]:
    datasets = {one for job in jobs for one in (job.dataset_id, job.config.get("validation_dataset_id")) if one}
    lanes = {job.lane_id for job in jobs if job.lane_id}
    held: list[Any] = [*session.exec(select(Dataset).where(col(Dataset.id).in_(datasets)))]
    if lanes:
        held += session.exec(select(Lane).where(col(Lane.id).in_(lanes)))
        held += session.exec(select(Node).where(col(Node.id).in_(select(Lane.node_id).where(col(Lane.id).in_(lanes)))))
    return held
