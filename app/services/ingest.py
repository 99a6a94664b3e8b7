"""A trainer's events on their way into the tables: each (job, attempt, sequence) once, in order, with its effects."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, delete, select

from app.columns import utc_now
from app.errors import WrongInput
from app.models import Attempt, Checkpoint, Event, Job, JobState, Metric
from app.services import checkpoints, clocks, events, jobs, rollups

KINDS = frozenset({"step", "eval", "sample", "checkpoint", "state", "log", "advice"})
OF_A_STEP = ("step", "eval", "sample", "checkpoint")
WITH_EFFECTS = frozenset({"state", "checkpoint"})
LATE = frozenset({"step", "eval", "sample", "log"})
SERVER_FIELDS = ("seq", "at", "kind", "id", "job", "attempt")
METRICS = ("loss", "learning_rate", "grad_norm", "num_tokens", "num_targets", "tokens_per_s", "step_s", "epoch")


# In the driver's own words: SQLAlchemy's would take longer over a row than SQLite does.
NAMES = ("job_id", "step", "attempt", "event_id", "at", *METRICS)
COLUMNS = f"({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})"


def take(session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]]) -> None:
    """Store what continues the sequence: what came before is passed over, what lies beyond a gap is sent again."""
    batch: list[dict[str, Any]] = []
    for row in _continuing(session, job, attempt, reported):
        if row["kind"] not in WITH_EFFECTS:
            batch.append(row)
            continue
        _take_batch(session, job, batch)
        batch = []
        if row["kind"] == "state":
            _take_state(session, job, attempt, row["data"])
        events.record(session, **row)
        if row["kind"] == "checkpoint":
            checkpoints.announce(session, job, attempt.number, row["data"])
    _take_batch(session, job, batch)
    session.add(attempt)
    session.add(job)


def take_late(
    session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]], up_to_step: int
) -> None:
    """Events of a fenced attempt, up to the step from which its successor goes on; never its states or files."""
    continuing = _continuing(session, job, attempt, reported)
    rows = [row for row in continuing if row["kind"] in LATE and (row["step"] or 0) <= up_to_step]
    _store(session, job, rows, replace=False)
    session.add(attempt)


def _continuing(
    session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The columns, with times by our clock, of the events that follow the last one taken, without a gap."""
    ahead = clocks.correction(session, attempt.lane_id) if reported else timedelta()
    newest, rows = attempt.last_seq, []
    place = {"job_id": job.id, "attempt": attempt.number}
    for raw in reported:
        kind, seq, at = _head(raw, ahead)
        if seq > newest + 1:
            break
        if seq == newest + 1:
            newest = seq
            data = {key: one for key, one in raw.items() if key not in SERVER_FIELDS}
            rows.append(place | {"seq": seq, "kind": kind, "at": at, "step": _step(kind, data), "data": data})
    attempt.last_seq = newest
    return rows


def _take_place_of_earlier(session: Session, job: Job, rows: list[dict[str, Any]]) -> None:
    """A job that goes on from a checkpoint made amid an evaluation makes that evaluation again."""
    for row in rows:
        if row["kind"] == "eval" and row["attempt"] > 1:
            of_step = update(Event).where(col(Event.job_id) == job.id, col(Event.step) == row["step"])
            earlier = of_step.where(col(Event.kind) == "eval", col(Event.attempt) < row["attempt"])
            session.exec(earlier.values(superseded=True))


def _store(session: Session, job: Job, rows: list[dict[str, Any]], replace: bool = True) -> None:
    """Write events that do nothing but tell, and the steps among them into the curves."""
    if not rows:
        return
    if replace:
        _take_place_of_earlier(session, job, rows)
    ids = events.record_many(session, rows)
    steps = [_metric(number, row) for number, row in zip(ids, rows, strict=True) if row["kind"] == "step"]
    if not steps:
        return
    how = "OR REPLACE" if replace else "OR IGNORE"
    session.connection().exec_driver_sql(f"INSERT {how} INTO metric {COLUMNS}", steps)
    numbers = [one[1] for one in steps]
    rollups.build(session, job.id or 0, min(numbers), max(numbers))


def _metric(event_id: int, row: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the curves, in the order of COLUMNS."""
    data = row["data"]
    place = (row["job_id"], row["step"], row["attempt"], event_id, row["at"].timestamp())
    return (*place, *[_number(data.get(name)) for name in METRICS])


def _head(raw: dict[str, Any], ahead: timedelta) -> tuple[str, int, datetime]:
    kind, seq = raw.get("kind"), raw.get("seq")
    if kind not in KINDS or isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < 2**53:
        raise WrongInput(f"An event needs a known kind and a sequence number from 1 on, not {kind!r} and {seq!r}.")
    try:
        at = datetime.fromisoformat(str(raw.get("at")))
        return kind, seq, (at if at.tzinfo else at.replace(tzinfo=UTC)) - ahead
    except (ValueError, OverflowError):
        return kind, seq, utc_now()


def _step(kind: str, data: dict[str, Any]) -> int | None:
    if kind not in OF_A_STEP:
        return None
    step = data.get("step")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**53:
        raise WrongInput(f"A {kind} event needs its step, not {step!r}.")
    return step


def _take_state(session: Session, job: Job, attempt: Attempt, data: dict[str, Any]) -> None:
    """Phase, resolved settings and resume point. The state itself is the server's: it is told back in the event."""
    if "resume_step" in data:
        resume_step = data["resume_step"]
        if isinstance(resume_step, bool) or not isinstance(resume_step, int) or resume_step < 0:
            raise WrongInput(f"resume_step must be a step, not {resume_step!r}.")
        attempt.resume_step = job.step = supersede(session, job, attempt.number, resume_step)
    if phase := data.get("phase"):
        job.phase = str(phase)
    if isinstance(resolved := data.get("resolved"), dict):
        job.resolved = job.resolved | resolved
        job.num_steps = resolved.get("num_steps", job.num_steps)
    if data.get("state") == JobState.RUNNING and job.state == JobState.CLAIMED:
        job.state = JobState.RUNNING
        jobs.announce_queue(session, job)
    data["state"], data["asked"] = job.state, job.asked
    data.setdefault("message", "")


def supersede(session: Session, job: Job, attempt: int, resume_step: int) -> int:
    """An attempt that goes on from a step takes the place of all that earlier ones did beyond it; returns the step."""
    session.flush()
    session.exec(
        update(Event)
        .where(
            col(Event.job_id) == job.id,
            col(Event.attempt) < attempt,
            col(Event.kind).in_(OF_A_STEP),
            col(Event.step) > resume_step,
        )
        .values(superseded=True)
    )
    session.exec(delete(Metric).where(col(Metric.job_id) == job.id, col(Metric.step) > resume_step))
    rollups.cut(session, job.id or 0, resume_step)
    beyond = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.attempt < attempt, Checkpoint.step > resume_step
    )
    for checkpoint in session.exec(beyond):
        checkpoint.superseded = True
        session.add(checkpoint)
    return resume_step


def _take_batch(session: Session, job: Job, rows: list[dict[str, Any]]) -> None:
    """Events that do nothing but tell; the last step among them is where the job is."""
    _store(session, job, rows)
    for row in [row for row in rows if row["kind"] == "step"][-1:]:
        data = row["data"]
        job.step = row["step"] or job.step
        job.num_steps = data.get("num_steps") or job.num_steps
        job.epoch, job.eta_s = data.get("epoch"), data.get("eta_s")


def _number(value: Any) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
