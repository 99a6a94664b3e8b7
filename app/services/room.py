"""What jobs will write on the disk of the control center, and whether there is room for it."""

from typing import Any

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from app.db import disk_of
from app.models import HELD, Dataset, Job, StoredFile
from app.space import human


def require(session: Session, job: Job) -> None:
    """Note with a new job how many bytes it will write here; raises `DiskFull` where the floor forbids that many."""
    disk = disk_of(session)
    if disk is None:
        return
    needed = int((job.estimate or {}).get("disk") or 0)
    if disk.shared_with_worker:
        # The worker writes first and keeps a dataset of its own.
        ids = [one["id"] for one in job.datasets] if job.datasets else [job.dataset_id]
        needed = 2 * needed + sum(dataset.size for one in ids if (dataset := session.get(Dataset, one)))
    disk.require(needed, "what this job will write")
    job.estimate = (job.estimate or {}) | {"disk_here": needed}
    session.add(job)


def left(session: Session) -> int | None:
    """Bytes that the next job may write, once the jobs that lanes hold have written theirs."""
    disk = disk_of(session)
    if disk is None:
        return None
    held = list(session.exec(select(Job).where(col(Job.state).in_(HELD))))
    return disk.left - sum(_still_to_write(session, job) for job in held)


def _needed(job: Job) -> int:
    return int((job.estimate or {}).get("disk_here") or 0)


def _still_to_write(session: Session, job: Job) -> int:
    written = session.exec(select(func.sum(StoredFile.size)).where(StoredFile.job_id == job.id)).one() or 0
    return max(0, _needed(job) - written)


def fits(session: Session) -> ColumnElement[bool]:
    """A condition on `Job`: there is room for what it will write."""
    room = left(session)
    needed: ColumnElement[int] = func.coalesce(col(Job.estimate)["disk_here"].as_integer(), 0)
    return needed <= room if room is not None else needed >= 0


def reason(job: Job, room: int | None) -> dict[str, Any] | None:
    """Why a queued job waits, where it is for the disk; `room` is what is `left`."""
    if room is None or _needed(job) <= room:
        return None
    has = f"{human(room)} are left" if room > 0 else "less is left than must stay free"
    return {"kind": "disk", "id": None, "message": f"waits for room on the disk: needs {human(_needed(job))}, {has}"}
