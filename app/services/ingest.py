"""A trainer's events on their way into the tables: each (job, attempt, sequence) once, in order, with its effects."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, delete, select

from app.columns import utc_now
from app.errors import WrongInput
from app.models import Attempt, Checkpoint, Event, Job, JobState, Metric
from app.services import checkpoints, clocks, events, jobs

KINDS = frozenset({"step", "eval", "sample", "checkpoint", "state", "log", "advice"})
OF_A_STEP = ("step", "eval", "sample", "checkpoint")
LATE = frozenset({"step", "eval", "sample", "log"})
SERVER_FIELDS = ("seq", "at", "kind", "id", "job", "attempt")
METRICS = ("loss", "learning_rate", "grad_norm", "num_tokens", "num_targets", "tokens_per_s", "step_s", "epoch")


def take(session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]]) -> None:
    """Store what continues the sequence: what came before is passed over, what lies beyond a gap is sent again."""
    for kind, at, data in _continuing(session, attempt, reported):
        if kind == "state":
            _take_state(session, job, attempt, data)
        event = _store(session, job, attempt, kind, at, data)
        if kind == "step":
            _take_step(session, job, attempt.number, event)
        elif kind == "checkpoint":
            checkpoints.announce(session, job, attempt.number, data)
    session.add(attempt)
    session.add(job)


def take_late(
    session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]], up_to_step: int
) -> None:
    """Events of a fenced attempt, up to the step from which its successor goes on; never its states or files."""
    for kind, at, data in _continuing(session, attempt, reported):
        step = _step(kind, data)
        if kind not in LATE or (step or 0) > up_to_step:
            continue
        event = _store(session, job, attempt, kind, at, data)
        if kind == "step" and session.get(Metric, (job.id, step)) is None:
            _store_metric(session, job, attempt.number, event)
    session.add(attempt)


def _continuing(
    session: Session, attempt: Attempt, reported: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, datetime, dict[str, Any]]]:
    """(kind, time by our clock, fields) of the events that follow the last one taken, without a gap."""
    ahead = clocks.correction(session, attempt.lane_id) if reported else timedelta()
    for raw in reported:
        kind, seq, at = _head(raw, ahead)
        if seq > attempt.last_seq + 1:
            return
        if seq == attempt.last_seq + 1:
            attempt.last_seq = seq
            yield kind, at, events.without_nan({key: one for key, one in raw.items() if key not in SERVER_FIELDS})


def _store(session: Session, job: Job, attempt: Attempt, kind: str, at: datetime, data: dict[str, Any]) -> Event:
    place = {"job_id": job.id, "attempt": attempt.number, "seq": attempt.last_seq}
    return events.record(session, kind, data, at=at, step=_step(kind, data), **place)


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
    beyond = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.attempt < attempt, Checkpoint.step > resume_step
    )
    for checkpoint in session.exec(beyond):
        checkpoint.superseded = True
        session.add(checkpoint)
    return resume_step


def _take_step(session: Session, job: Job, attempt: int, event: Event) -> None:
    data = event.data
    job.step = event.step or job.step
    job.num_steps = data.get("num_steps") or job.num_steps
    job.epoch, job.eta_s = data.get("epoch"), data.get("eta_s")
    _store_metric(session, job, attempt, event)


def _store_metric(session: Session, job: Job, attempt: int, event: Event) -> None:
    assert job.id is not None and event.step is not None and event.id is not None
    values: dict[str, Any] = {key: _number(event.data.get(key)) for key in METRICS}
    session.merge(
        Metric(job_id=job.id, step=event.step, attempt=attempt, event_id=event.id, at=event.at.timestamp(), **values)
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None
