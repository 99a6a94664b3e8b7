"""Out of the trash for good: files first, then rows, so that a purge that broke off is simply done again."""

from datetime import timedelta

from sqlmodel import Session, col, delete, or_, select

from app.columns import utc_now
from app.models import Adapter, Checkpoint, Dataset, Event, Finding, Job, Metric, StoredFile
from app.services import trash
from app.services.adapters import FOLDER
from app.services.trashed import GONE, Thing
from app.storage import Storage, inside

# What belongs to something goes before it, so that it can go whole.
ORDER = (Adapter, Checkpoint, Job, Dataset)
DELETED = "It was deleted; add the same file again to use it."


def expired(session: Session, storage: Storage, keep: timedelta) -> int:
    """Delete what has lain in the trash for longer than `keep`; how many things went."""
    old = [thing for _, thing in trash.contents(session) if (thing.trashed_at or GONE) <= utc_now() - keep]
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
        session.delete(dataset)
        return
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
        session.delete(job)
        return
    _remove_all_but_adapter(storage, job.id, adapter.attempt)
    session.exec(delete(Checkpoint).where(col(Checkpoint.job_id) == job.id))
    other = or_(col(StoredFile.attempt) != adapter.attempt, ~col(StoredFile.path).startswith(FOLDER + "/"))
    session.exec(delete(StoredFile).where(col(StoredFile.job_id) == job.id, other))
    for table in (Metric, Event):
        session.exec(delete(table).where(col(table.job_id) == job.id))
    job.trashed_at = GONE
    session.add(job)


def _remove_all_but_adapter(storage: Storage, job_id: int, attempt: int) -> None:
    for folder in (storage.jobs / str(job_id)).glob("attempt-*/*"):
        if folder != storage.attempt(job_id, attempt) / FOLDER:
            storage.remove_folder(folder)
