"""Out of the trash for good: files first, then rows, so that a purge that broke off is simply done again."""

from datetime import datetime, timedelta

from sqlmodel import Session, col, delete, or_, select, update

from app.columns import utc_now
from app.models import Adapter, Attempt, Checkpoint, Dataset, Event, Finding, Job, Metric, Rollup, StoredFile
from app.services import ids, trash
from app.services.adapters import FOLDER
from app.services.trashed import GONE, Thing
from app.storage import Storage, inside

# What belongs to something goes before it, so that it can go whole.
ORDER = (Adapter, Checkpoint, Job, Dataset)
DELETED = "It was deleted; add the same file again to use it."


def expired(session: Session, storage: Storage, keep: timedelta, now: datetime | None = None) -> int:
    """Delete what has lain in the trash for longer than `keep`; how many things went."""
    last = (now or utc_now()) - keep
    old = [thing for _, thing in trash.contents(session) if (thing.trashed_at or GONE) <= last]
    for thing in sorted(old, key=lambda thing: ORDER.index(type(thing))):
        _delete(session, storage, thing)
        session.flush()
    return len(old)


def _delete(session: Session, storage: Storage, thing: Thing) -> None:
    if isinstance(thing, Dataset):
        _delete_dataset(session, storage, thing)
    elif isinstance(thing, Checkpoint):
        _delete_checkpoint(session, storage, thing)
    elif isinstance(thing, Adapter):
        _delete_adapter(session, storage, thing)
    else:
        _delete_job(session, storage, thing)


def _delete_dataset(session: Session, storage: Storage, dataset: Dataset) -> None:
    storage.dataset(dataset.sha256).unlink(missing_ok=True)
    storage.unpacked(dataset.sha256).unlink(missing_ok=True)
    storage.changes(dataset.sha256).unlink(missing_ok=True)
    session.exec(delete(Finding).where(col(Finding.dataset_id) == dataset.id))
    used = session.exec(select(Job.id).where(trash.reads(dataset.id)).limit(1)).first()
    child = session.exec(select(Dataset.id).where(Dataset.parent_id == dataset.id).limit(1)).first()
    if used is None and child is None:
        ids.retire(session, dataset)
        session.delete(dataset)
        return
    # Sent again, it is what it holds, not what once was done to another.
    dataset.made = None
    dataset.state, dataset.error, dataset.trashed_at = "failed", DELETED, GONE
    session.add(dataset)


def _delete_checkpoint(session: Session, storage: Storage, checkpoint: Checkpoint) -> None:
    storage.remove_folder(inside(storage.attempt(checkpoint.job_id, checkpoint.attempt), checkpoint.path))
    session.exec(
        delete(StoredFile).where(
            col(StoredFile.job_id) == checkpoint.job_id,
            col(StoredFile.attempt) == checkpoint.attempt,
            col(StoredFile.path).startswith(checkpoint.path + "/"),
        )
    )
    session.delete(checkpoint)


def _delete_adapter(session: Session, storage: Storage, adapter: Adapter) -> None:
    storage.remove_folder(storage.attempt(adapter.job_id, adapter.attempt) / FOLDER)
    session.exec(
        delete(StoredFile).where(
            col(StoredFile.job_id) == adapter.job_id,
            col(StoredFile.attempt) == adapter.attempt,
            col(StoredFile.path).startswith(FOLDER + "/"),
        )
    )
    ids.retire(session, adapter)
    session.delete(adapter)
    session.flush()
    job = session.get_one(Job, adapter.job_id)
    if job.trashed_at == GONE:
        _delete_job(session, storage, job)


def _delete_job(session: Session, storage: Storage, job: Job) -> None:
    """All of it, but for an adapter that is kept: its row says which job made it, with which configuration."""
    assert job.id is not None
    adapter = session.exec(select(Adapter).where(Adapter.job_id == job.id)).first()
    if adapter is None:
        storage.remove_folder(storage.jobs / str(job.id))
        ids.retire(session, job)
        session.exec(update(Event).where(col(Event.lane_job_id) == job.id).values(lane_job_id=None))
        session.delete(job)
        return
    _remove_all_but_adapter(storage, job.id, adapter.attempt)
    session.exec(delete(Checkpoint).where(col(Checkpoint.job_id) == job.id))
    other = or_(col(StoredFile.attempt) != adapter.attempt, ~col(StoredFile.path).startswith(FOLDER + "/"))
    session.exec(delete(StoredFile).where(col(StoredFile.job_id) == job.id, other))
    for table in (Metric, Rollup, Event):
        session.exec(delete(table).where(col(table.job_id) == job.id))
    session.exec(update(Attempt).where(col(Attempt.job_id) == job.id).values(black_box=None))
    job.trashed_at = GONE
    session.add(job)


def _remove_all_but_adapter(storage: Storage, job_id: int, attempt: int) -> None:
    for folder in (storage.jobs / str(job_id)).glob("attempt-*/*"):
        if folder != storage.attempt(job_id, attempt) / FOLDER:
            storage.remove_folder(folder)
