"""A dataset checked anew: read in another way, or compared with the data that a model is trained on."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from app.conversations.containers.reading import Reading
from app.errors import Conflict, wrong_field
from app.models import ENDED, HELD, Dataset, Job
from app.services import datasets, trash
from app.services.trashed import refuse_trashed


def read_as(session: Session, dataset: Dataset, reading: Reading) -> None:
    """Say how the file is to be read. Raises `WrongInput`, and `Conflict` while a job needs it."""
    if problem := reading.problem():
        raise wrong_field(*problem)
    open_jobs = select(Job).where(trash.reads(dataset.id), col(Job.state).not_in(ENDED))
    if job := session.exec(open_jobs).first():
        raise Conflict(f"Job {job.id} needs this dataset as it is; wait for its end or cancel it.")
    dataset.reading = msgspec.to_builtins(reading) or None
    dataset.num_records = dataset.num_valid = None
    _begin(session, dataset)


def compare(session: Session, dataset: Dataset, with_ids: Sequence[int]) -> None:
    """Look for questions of these datasets in it; of none, to leave that out again.

    Raises `WrongInput`, and `Conflict` while one of them is not ready or a running job reads the file.
    """
    for other_id in with_ids:
        if other_id == dataset.id:
            raise wrong_field("datasets", f"must name other datasets than {other_id} itself")
        other = session.get(Dataset, other_id)
        if other is None or other.trashed_at is not None:
            raise wrong_field("datasets", f"names dataset {other_id}, which does not exist or lies in the trash")
        _require_checked(other)
    _require_checked(dataset)
    running = select(Job).where(trash.reads(dataset.id), col(Job.state).in_(HELD))
    if job := session.exec(running).first():
        raise Conflict(f"Job {job.id} is reading this dataset; compare it when the job has ended.")
    dataset.compared_with = list(dict.fromkeys(with_ids)) or None
    _begin(session, dataset)


def leakage(session: Session, validation_id: int | None, trained_ids: Sequence[int]) -> dict[str, Any] | None:
    """What is known of questions on both sides of a job; `num_leaks` is None where they were not compared."""
    dataset = None if validation_id is None else session.get(Dataset, validation_id)
    if dataset is None:
        return None
    is_known = dataset.findings is not None and set(trained_ids) <= set(dataset.compared_with or ())
    leaks = (dataset.findings or {}).get("leakage", 0) if is_known else None
    return {"id": dataset.id, "name": dataset.name, "num_leaks": leaks}


def _require_checked(dataset: Dataset) -> None:
    refuse_trashed(dataset)
    if dataset.state not in datasets.CHECKED:
        raise Conflict(f"Dataset {dataset.id} is {dataset.state}; it can be compared once its check is through.")


def _begin(session: Session, dataset: Dataset) -> None:
    dataset.state, dataset.error, dataset.progress = "checking", None, 0.0
    dataset.findings = dataset.statistics = None
    session.add(dataset)
    session.flush()
    datasets.announce(session, dataset)
