"""Checkpoints and the files of an attempt: announced by an event, counted once every file is here with its hash."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session, and_, col, delete, select

from app.errors import NotFound, WrongInput
from app.hub import iso
from app.models import Attempt, Checkpoint, Job, StoredFile
from app.services import events
from app.storage import Received, Storage, inside

GIVEN_UP = timedelta(hours=1)
SHA256 = re.compile(r"^[0-9a-f]{64}$")


def announce(session: Session, job: Job, attempt: int, data: dict[str, Any]) -> None:
    """Note a checkpoint an event tells of, with the files it will consist of."""
    files = [check_file(one) for one in data.get("files") or []]
    path = str(data.get("path") or "")
    if not files or any(not one["path"].startswith(path + "/") for one in files):
        raise WrongInput("A checkpoint event names its folder and the files in it.")
    assert job.id is not None
    query = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.attempt == attempt, Checkpoint.step == data["step"]
    )
    # One asked for by a person may fall on a step that was saved anyway: the later one stands.
    checkpoint = session.exec(query).first() or Checkpoint(
        job_id=job.id, attempt=attempt, step=data["step"], size=0, path=path
    )
    checkpoint.path, checkpoint.files, checkpoint.complete, checkpoint.retired = path, files, False, False
    checkpoint.size = sum(one["size"] for one in files)
    checkpoint.best, checkpoint.eval_loss = bool(data.get("best")), data.get("eval_loss")
    session.add(checkpoint)
    session.flush()
    _mark_complete(session, job, checkpoint)


def check_file(one: Any) -> dict[str, Any]:
    """A file as events and reports name it: path, size and sha256; raises `WrongInput`."""
    if not isinstance(one, dict) or not isinstance(one.get("path"), str):
        raise WrongInput("A file needs path, size and sha256.")
    size, sha256 = one.get("size"), one.get("sha256")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0 or not SHA256.match(str(sha256)):
        raise WrongInput(f"The file {one['path']} needs its size in bytes and its sha256.")
    inside(Path("/nowhere"), one["path"])
    return {"path": one["path"], "size": size, "sha256": sha256}


def store(session: Session, storage: Storage, job: Job, attempt: int, path: str, received: Received) -> None:
    """Put a received file into the attempt's own folder and note its hash."""
    assert job.id is not None
    received.keep(inside(storage.attempt(job.id, attempt), path))
    query = select(StoredFile).where(
        StoredFile.job_id == job.id, StoredFile.attempt == attempt, StoredFile.path == path
    )
    row = session.exec(query).first() or StoredFile(job_id=job.id, attempt=attempt, path=path, size=0, sha256="")
    row.size, row.sha256 = received.size, received.sha256
    session.add(row)
    session.flush()
    waiting = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.attempt == attempt, col(Checkpoint.complete).is_(False)
    )
    for checkpoint in session.exec(waiting):
        if _mark_complete(session, job, checkpoint):
            # Whoever looked when the trainer told of it saw nothing yet that can be resumed from.
            told = {"step": checkpoint.step, "size": checkpoint.size, "best": checkpoint.best, "stored": True}
            events.record_of_job(session, job, "checkpoint", told, step=checkpoint.step)


def are_stored(session: Session, job_id: int, attempt: int, files: list[dict[str, Any]]) -> bool:
    """Whether every file named is here with that hash."""
    rows = session.exec(select(StoredFile).where(StoredFile.job_id == job_id, StoredFile.attempt == attempt))
    held = {row.path: row.sha256 for row in rows}
    return all(held.get(one["path"]) == one["sha256"] for one in files)


def _mark_complete(session: Session, job: Job, checkpoint: Checkpoint) -> bool:
    """Whether all its files are here."""
    if not are_stored(session, checkpoint.job_id, checkpoint.attempt, checkpoint.files):
        return False
    checkpoint.complete = True
    session.add(checkpoint)
    session.flush()
    _retire(session, job)
    return True


def _retire(session: Session, job: Job) -> None:
    """Mark for removal what lies beyond the newest `keep_checkpoints`; the best one stays where that is wanted."""
    query = (
        select(Checkpoint)
        .where(Checkpoint.job_id == job.id, col(Checkpoint.complete).is_(True), col(Checkpoint.retired).is_(False))
        .where(col(Checkpoint.trashed_at).is_(None))
        .order_by(col(Checkpoint.superseded), col(Checkpoint.step).desc())
    )
    kept = list(session.exec(query))
    scored = [one for one in kept if one.eval_loss is not None and not one.superseded]
    best = min(scored, key=lambda one: (one.eval_loss, one.step), default=None) if job.config["keep_best"] else None
    for checkpoint in kept[job.config["keep_checkpoints"] :]:
        if checkpoint is not best:
            checkpoint.retired = True
            session.add(checkpoint)


def discard(session: Session, job: Job, attempt: Attempt) -> bool:
    """Never choose the checkpoint again that this attempt was to go on from; whether there was one."""
    query = select(Checkpoint).where(
        Checkpoint.job_id == job.id,
        Checkpoint.step == attempt.resume_step,
        Checkpoint.attempt < attempt.number,
        col(Checkpoint.complete).is_(True),
        col(Checkpoint.superseded).is_(False),
        col(Checkpoint.retired).is_(False),
    )
    checkpoint = session.exec(query.order_by(col(Checkpoint.attempt).desc())).first()
    if checkpoint is None:
        return False
    checkpoint.retired = True
    session.add(checkpoint)
    return True


def remove_retired(session: Session, storage: Storage) -> int:
    """Remove the files of retired checkpoints; their rows stay as history. Returns how many went."""
    retired = select(Checkpoint).where(col(Checkpoint.retired).is_(True), col(Checkpoint.complete).is_(True))
    count = 0
    for checkpoint in session.exec(retired):
        _remove_files(session, storage, checkpoint)
        count += 1
    return count


def remove_unfinished(session: Session, storage: Storage, now: datetime) -> int:
    """The same for checkpoints that an attempt began to send and, since it has ended, will not send whole."""
    query = (
        select(Checkpoint)
        .join(Attempt, and_(col(Attempt.job_id) == Checkpoint.job_id, col(Attempt.number) == Checkpoint.attempt))
        .where(col(Checkpoint.complete).is_(False), col(Checkpoint.retired).is_(False))
        .where(col(Attempt.ended_at) < now - GIVEN_UP)
    )
    count = 0
    for checkpoint in session.exec(query):
        checkpoint.retired = True
        _remove_files(session, storage, checkpoint)
        count += 1
    return count


def _remove_files(session: Session, storage: Storage, checkpoint: Checkpoint) -> None:
    storage.remove_folder(inside(storage.attempt(checkpoint.job_id, checkpoint.attempt), checkpoint.path))
    checkpoint.complete = False
    session.add(checkpoint)
    gone = delete(StoredFile).where(
        col(StoredFile.job_id) == checkpoint.job_id,
        col(StoredFile.attempt) == checkpoint.attempt,
        col(StoredFile.path).startswith(checkpoint.path + "/"),
    )
    session.exec(gone)


def stored_path(session: Session, storage: Storage, job_id: int, attempt: int, path: str) -> Path:
    """Where a file of an attempt lies; raises `NotFound`."""
    query = select(StoredFile).where(
        StoredFile.job_id == job_id, StoredFile.attempt == attempt, StoredFile.path == path
    )
    if session.exec(query).first() is None:
        raise NotFound(f"Attempt {attempt} of job {job_id} has no file {path!r}.")
    return inside(storage.attempt(job_id, attempt), path)


def view_all(
    session: Session, job_id: int, limit: int | None = None, before_step: int | None = None
) -> list[dict[str, Any]]:
    """Checkpoints of a job that can still be resumed from, newest first."""
    query = (
        select(Checkpoint)
        .where(
            Checkpoint.job_id == job_id,
            col(Checkpoint.complete).is_(True),
            col(Checkpoint.retired).is_(False),
            col(Checkpoint.superseded).is_(False),
            col(Checkpoint.trashed_at).is_(None),
        )
        .order_by(col(Checkpoint.step).desc())
        .limit(limit)
    )
    if before_step is not None:
        query = query.where(col(Checkpoint.step) < before_step)
    return [view(one) for one in session.exec(query)]


def view(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint as the contract shows it."""
    return {
        "id": checkpoint.id,
        "step": checkpoint.step,
        "attempt": checkpoint.attempt,
        "size": checkpoint.size,
        "best": checkpoint.best,
        "eval_loss": checkpoint.eval_loss,
        "created_at": iso(checkpoint.created_at),
        "trashed_at": iso(checkpoint.trashed_at),
    }
