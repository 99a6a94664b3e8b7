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


def read_as(session: Session, dataset: Dataset, reading: Reading) -> list[int]:
    """Say how the file is to be read; returns the ids of all datasets to be checked anew, those compared with it too.

    Raises `WrongInput`, and `Conflict` while it is being checked or a job needs it.
    """
    _require(dataset, *datasets.CHECKED, "failed")
    if problem := reading.problem():
        raise wrong_field(*problem)
    open_jobs = select(Job).where(trash.reads(dataset.id), col(Job.state).not_in(ENDED))
    if job := session.exec(open_jobs).first():
        raise Conflict(f"Job {job.id} needs this dataset as it is; wait for its end or cancel it.")
    dataset.reading = msgspec.to_builtins(reading) or None
    dataset.num_records = dataset.num_valid = None
    _begin(session, dataset)
    compared = [one for one in session.exec(select(Dataset)) if dataset.id in (one.compared_with or ())]
    again = [one for one in compared if one.state in datasets.CHECKED and _reader(session, one) is None]
    for one in compared:
        if one in again:
            _begin(session, one)
        else:
            one.compared_with = [other for other in one.compared_with or () if other != dataset.id] or None
            session.add(one)
    return [one.id or 0 for one in (dataset, *again)]


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
        _require(other, "ready")
    _require(dataset, *datasets.CHECKED)
    if job := _reader(session, dataset):
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


def _reader(session: Session, dataset: Dataset) -> Job | None:
    """A job that reads the file now."""
    return session.exec(select(Job).where(trash.reads(dataset.id), col(Job.state).in_(HELD))).first()


def _require(dataset: Dataset, *states: str) -> None:
    refuse_trashed(dataset)
    if dataset.state not in states:
        raise Conflict(f"Dataset {dataset.id} is {dataset.state}; that can be done once it is {states[0]}.")


def _begin(session: Session, dataset: Dataset) -> None:
    dataset.state, dataset.error, dataset.progress = "checking", None, 0.0
    dataset.findings = dataset.statistics = None
    session.add(dataset)
    session.flush()
    datasets.announce(session, dataset)
