"""Events: written with what they tell of, in one transaction; read back for streams that start late or fell behind."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, text
from sqlmodel import Session, col, delete, select

from app.db import announce, to_json
from app.hub import Entry, row_entry, to_entry
from app.models import Event, Job, Mark

PRUNED = "newest_pruned_event"
PRUNABLE = ("telemetry", "queue", "node", "dataset")
PRUNE_AT_ONCE = 5000  # of a kind; others wait for the writer meanwhile
NEWEST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = 'event'")  # of all there ever were
PLAIN = ("id", "job_id", "attempt", "seq", "kind", "step")
# In the driver's own words: SQLAlchemy's would take longer over a row than SQLite does.
INSERT = f"INSERT INTO event ({', '.join(PLAIN)}, superseded, at, data) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)"
TOPICS = ("state", "queue", "node", "telemetry", "dataset")


@dataclass(frozen=True)
class Wanted:
    """What a stream shows: all events of some jobs with their lanes' telemetry, and whole topics."""

    jobs: frozenset[int] = frozenset()
    topics: frozenset[str] = frozenset()

    def holds(self, entry: Entry) -> bool:
        return entry.kind in self.topics or entry.job_id in self.jobs or entry.lane_job_id in self.jobs

    def clauses(self) -> list[Any]:
        """The ways to be wanted, each with an index of its own."""
        by_job = [column == job for job in self.jobs for column in (col(Event.job_id), col(Event.lane_job_id))]
        return [*(col(Event.kind) == topic for topic in self.topics), *by_job]


def without_nan(value: Any) -> Any:
    """The value with NaN and infinities as null, as they may not stand in JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return value


def record(session: Session, kind: str, data: dict[str, Any], **columns: Any) -> Event:
    """Store an event; the streams hear of it when the session commits."""
    event = Event(kind=kind, data=without_nan(data), **columns)
    session.add(event)
    session.flush()
    announce(session, event)
    return event


def record_many(session: Session, rows: list[dict[str, Any]]) -> range:
    """Store many events of jobs at once, each with job_id, attempt, seq, kind, at, step, data; returns their ids.

    Several times as fast as one by one: no object is made for an event, and SQLite is told of all at once.
    """
    session.flush()
    first = (session.connection().execute(NEWEST_ID).scalar() or 0) + 1
    for number, row in enumerate(rows, first):
        row["id"] = number
        announce(session, row_entry(row))
    session.connection().exec_driver_sql(INSERT, [_stored(row) for row in rows])
    return range(first, first + len(rows))


def _stored(row: dict[str, Any]) -> tuple[Any, ...]:
    """The values of INSERT, as the columns' own types would write them."""
    at = row["at"].astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return (*[row[name] for name in PLAIN], at, to_json(row["data"]))


def record_of_job(session: Session, job: Job, kind: str, data: dict[str, Any], step: int | None = None) -> Event:
    """Store an event the server itself makes for a job. Its number is negative, so that it meets no trainer's."""
    job.server_seq += 1
    return record(session, kind, data, job_id=job.id, attempt=job.attempt, seq=-job.server_seq, step=step)


def record_state(session: Session, job: Job, message: str = "", **more: Any) -> Event:
    """Tell of the job's state as it stands now."""
    data = {"state": job.state, "phase": job.phase, "message": message, "asked": job.asked}
    return record_of_job(session, job, "state", data | more)


def newest_id(session: Session) -> int:
    return session.exec(select(func.max(Event.id))).one() or 0


def newest_id_of_job(session: Session, job_id: int) -> int:
    return session.exec(select(func.max(Event.id)).where(Event.job_id == job_id)).one() or 0


def pruned_id(session: Session) -> int:
    mark = session.get(Mark, PRUNED)
    return mark.value if mark else 0


def read_page(session: Session, wanted: Wanted, cursor: int, up_to: int, limit: int) -> list[Entry]:
    """The next events after the cursor, oldest first, without those that a later attempt superseded."""
    found: dict[int, Event] = {}
    # A query for each way to be wanted: one with OR would sort the whole job for each page.
    for clause in wanted.clauses():
        query = select(Event).where(clause, col(Event.id) > cursor, col(Event.id) <= up_to)
        query = query.where(col(Event.superseded).is_(False)).order_by(col(Event.id)).limit(limit)
        found |= {event.id or 0: event for event in session.exec(query)}
    return [to_entry(found[number]) for number in sorted(found)[:limit]]


def prune(session: Session, before: datetime, kinds: Collection[str] = PRUNABLE) -> int:
    """Throw away old events of machines and lists; what happened to a job stays. Returns how many went."""
    gone = 0
    for kind in kinds:
        # By the index on kind and id, from the oldest on: where nothing is old, one row is looked at.
        of_kind = select(Event.id).where(Event.kind == kind, col(Event.job_id).is_(None)).order_by(col(Event.id))
        first_kept = session.exec(of_kind.where(col(Event.at) >= before).limit(1)).first()
        old = of_kind if first_kept is None else of_kind.where(col(Event.id) < first_kept)
        ids = list(session.exec(old.limit(PRUNE_AT_ONCE)))
        if ids:
            session.exec(delete(Event).where(col(Event.id).in_(ids)))
            session.merge(Mark(name=PRUNED, value=max(pruned_id(session), ids[-1] or 0)))
        gone += len(ids)
    return gone


def log(session: Session, job: Job, text: str, level: str = "info") -> None:
    record_of_job(session, job, "log", {"level": level, "text": text})
