"""Files of the inbox as rows: what state each is in and why. What is done with the files is in `app.inbox`."""

from collections.abc import Iterator
from typing import Any

from sqlmodel import Session, col, select

from app.columns import utc_now
from app.errors import Conflict, NotFound
from app.hub import iso
from app.inbox_table import ENDED, GIVEN_UP, LIVE, STATE_OF_JOB, InboxFile
from app.models import Adapter, Dataset, Job, JobState
from app.services import datasets, events


def get(session: Session, file_id: int) -> InboxFile:
    row = session.get(InboxFile, file_id)
    if row is None:
        raise NotFound(f"There is no file {file_id} of the inbox.")
    return row


def under_way(session: Session) -> list[InboxFile]:
    """Rows that have not ended, oldest first."""
    query = select(InboxFile).where(col(InboxFile.state).in_(LIVE))
    return list(session.exec(query.order_by(col(InboxFile.id))))


def due(session: Session) -> list[int]:
    """Ids of rows whose files must be moved."""
    return [row_id or 0 for row_id in session.exec(select(InboxFile.id).where(col(InboxFile.becoming).is_not(None)))]


def change(session: Session, row: InboxFile, state: str, reason: str | None = None) -> None:
    """Put the row into a state that is not its last; says so only where something is new."""
    if (row.state, row.reason) != (state, reason):
        row.state, row.reason = state, reason
        announce(session, row)


def send(session: Session, row: InboxFile, state: str, reason: str | None = None) -> None:
    """Let it end in that state as soon as its file lies there."""
    row.becoming, row.target, row.reason = state, None, reason
    announce(session, row)


def announce(session: Session, row: InboxFile) -> None:
    session.add(row)
    session.flush()
    short = ("id", "name", "state", "reason", "job_id")
    events.record(session, "dataset", {"id": row.dataset_id, "inbox": {key: getattr(row, key) for key in short}})


def sight(session: Session, name: str, size: int, mtime_ns: int) -> InboxFile:
    """A file that was not there before."""
    row = InboxFile(name=name, place=name, size=size, mtime_ns=mtime_ns)
    announce(session, row)
    return row


def forget(session: Session, row: InboxFile) -> None:
    """Its file was taken away before anything was done with it."""
    session.delete(row)
    events.record(session, "dataset", {"id": None, "inbox": {"id": row.id, "name": row.name, "state": "gone"}})


def take(session: Session, row: InboxFile, dataset: Dataset) -> None:
    """Its bytes are a dataset now; the same bytes as of an earlier file are trained once."""
    row.sha256, row.dataset_id, row.taken_at = dataset.sha256, dataset.id, utc_now()
    for other in _same_bytes(session, row):
        if (other.name, other.place) == (row.name, None) and other.state in LIVE and other.becoming is None:
            # The file was touched while it is in work: it is still that one.
            other.place, other.size, other.mtime_ns = row.place, row.size, row.mtime_ns
            session.add(other)
            session.delete(row)
            return
    first = next((one for one in _same_bytes(session, row) if _counts(session, one)), None)
    if first is not None and not row.again:
        row.job_id = first.job_id
        told = f"The same bytes as {first.name} (file {first.id}): trained once. Replay it to train it again."
        send(session, row, "duplicate", told)
        return
    change(session, row, "checking")


def _same_bytes(session: Session, row: InboxFile) -> list[InboxFile]:
    query = select(InboxFile).where(InboxFile.sha256 == row.sha256, InboxFile.id != row.id)
    return list(session.exec(query.order_by(col(InboxFile.id))))


def _counts(session: Session, row: InboxFile) -> bool:
    """Whether these bytes are trained, or will be, because of this file."""
    if (row.becoming or row.state) not in (*LIVE, "archived"):
        return False
    job = session.get(Job, row.job_id) if row.job_id else None
    return job is None or (job.state not in GIVEN_UP and job.trashed_at is None)


def follow(session: Session, row: InboxFile) -> None:
    """Go where its job goes."""
    job = session.get(Job, row.job_id)
    if job is None:
        return
    if job.state == JobState.SUCCEEDED:
        send(session, row, "archived", row.reason if row.state != "failed" else None)
    elif job.state in GIVEN_UP:
        why = (job.error or {}).get("message") or "it was stopped"
        send(session, row, "failed", f"Job {job.id} {'failed' if job.state == 'failed' else 'was stopped'}: {why}")
    elif row.state != STATE_OF_JOB[JobState(job.state)]:
        row.ended_at = None
        change(session, row, STATE_OF_JOB[JobState(job.state)], None if row.state == "failed" else row.reason)


def to_follow(session: Session) -> list[int]:
    """Ids of rows whose jobs are in another state than they are."""
    query = select(InboxFile.id, InboxFile.state, Job.state).join(Job, col(Job.id) == InboxFile.job_id)
    query = query.where(col(InboxFile.state).in_((*LIVE, "failed")), col(InboxFile.becoming).is_(None))
    found = [(row_id, state, JobState(of_job)) for row_id, state, of_job in session.exec(query)]
    return [
        row_id or 0
        for row_id, state, of_job in found
        if STATE_OF_JOB.get(of_job, "failed" if of_job in GIVEN_UP else "archived") != state
    ]


def end(session: Session, row: InboxFile, place: str | None) -> None:
    """The file lies at `place` (None: it is gone) and its papers are written."""
    row.place, row.target = place, None
    row.state, row.becoming = row.becoming or row.state, None
    row.ended_at = utc_now()
    announce(session, row)


def begin_again(session: Session, row: InboxFile, name: str, size: int, mtime_ns: int) -> None:
    """The file lies in the inbox again, under a name that was free."""
    row.name, row.place, row.size, row.mtime_ns = name, name, size, mtime_ns
    row.becoming, row.target, row.state, row.reason = None, None, "settling", None
    row.sha256 = row.dataset_id = row.job_id = row.taken_at = row.ended_at = None
    announce(session, row)


def stay(session: Session, row: InboxFile) -> None:
    """There is no file to replay."""
    row.becoming, row.target, row.place = None, None, None
    row.reason = "Its file is not there any more; put it into the inbox again."
    announce(session, row)


def replay(session: Session, row: InboxFile) -> None:
    """Train an ended file (again); raises `Conflict` for one that is under way."""
    if row.state not in ENDED or row.becoming is not None:
        raise Conflict(f"{row.name} is {row.state} and goes on by itself; only a file that has ended can be replayed.")
    job = session.get(Job, row.job_id) if row.job_id and row.state == "failed" else None
    if job is not None and job.state not in GIVEN_UP:
        raise Conflict(f"Job {job.id} of {row.name} is {job.state} again; wait for it.")
    if row.place is None:
        raise Conflict(f"The file of {row.name} is not there any more; put it into the inbox again.")
    row.again, row.dismissed_at = True, None
    send(session, row, "settling", "It goes back into the inbox.")


def dismiss(session: Session, row: InboxFile) -> None:
    """Take an ended file off the list; it stays on disk, and its bytes stay known."""
    if row.state not in ENDED or row.becoming is not None:
        raise Conflict(f"{row.name} is {row.state}: take the file out of the inbox, or stop its job, first.")
    if row.dismissed_at is None:
        row.dismissed_at = utc_now()
        announce(session, row)


def page(session: Session, limit: int, after: int | None) -> list[InboxFile]:
    """Files, newest first, without those that were dismissed."""
    query = select(InboxFile).where(col(InboxFile.dismissed_at).is_(None)).order_by(col(InboxFile.id).desc())
    return list(session.exec((query.where(col(InboxFile.id) < after) if after is not None else query).limit(limit)))


def view(session: Session, row: InboxFile) -> dict[str, Any]:
    dataset = session.get(Dataset, row.dataset_id) if row.dataset_id else None
    return {
        "id": row.id,
        "name": row.name,
        "place": row.place,
        "state": row.state,
        "reason": row.reason,
        "size": row.size,
        "sha256": row.sha256,
        "dataset_id": row.dataset_id,
        "progress": dataset.progress if dataset and row.state == "checking" else None,
        "job_id": row.job_id,
        "adapter_id": _adapter_id(session, row),
        "can_replay": row.state in ENDED and row.becoming is None and row.place is not None,
        "can_dismiss": row.state in ENDED and row.becoming is None,
        "seen_at": iso(row.seen_at),
        "taken_at": iso(row.taken_at),
        "ended_at": iso(row.ended_at),
    }


def _adapter_id(session: Session, row: InboxFile) -> int | None:
    return session.exec(select(Adapter.id).where(Adapter.job_id == row.job_id)).first() if row.job_id else None


def manifest(session: Session, row: InboxFile) -> dict[str, Any]:
    """What stands beside a file that has ended: where it went and what came of it."""
    dataset = session.get(Dataset, row.dataset_id) if row.dataset_id else None
    job = session.get(Job, row.job_id) if row.job_id else None
    adapter = session.exec(select(Adapter).where(Adapter.job_id == row.job_id)).first() if job else None
    return {
        "file": row.name,
        "state": row.becoming or row.state,
        "note": row.reason,
        "sha256": row.sha256,
        "size": row.size,
        "dataset": row.dataset_id,
        "records": dataset.num_records if dataset else None,
        "valid": dataset.num_valid if dataset else None,
        "findings": dataset.findings if dataset else None,
        "job": row.job_id,
        "model": job.model if job else None,
        "config": job.config if job else None,
        "error": job.error if job else None,
        "adapter": adapter.id if adapter else None,
        "adapter_files": adapter.files if adapter else None,
        "seen_at": iso(row.seen_at),
        "taken_at": iso(row.taken_at),
        "queued_at": iso(job.created_at) if job else None,
        "started_at": iso(job.started_at) if job else None,
        "ended_at": iso(job.ended_at) if job else None,
    }


def findings(session: Session, row: InboxFile, batch: int = 500) -> Iterator[dict[str, Any]]:
    """All findings of its dataset in the order of their lines, in constant memory."""
    after: int | None = None
    while row.dataset_id is not None:
        found = datasets.findings(session, row.dataset_id, None, None, batch, after)
        yield from (datasets.finding_view(one) for one in found)
        if len(found) < batch:
            return
        after = found[-1].id
        session.expunge_all()
