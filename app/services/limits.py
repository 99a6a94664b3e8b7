"""How long a job may be worked on: all its attempts together, from claim to end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from app.columns import utc_now
from app.deeds import CENTER
from app.models import HELD, Attempt, History, Job, JobState
from app.services import control, events, jobs


def stop_overlong(session: Session, jumps: Sequence[tuple[datetime, float]]) -> None:
    """Ask jobs that are over their maximum to save and stop; one that went back to the queue ends there.

    `jumps` are the times at which the clock was found ahead, and by how many seconds: nobody worked in those.
    """
    live = col(Job.state).in_([*HELD, JobState.QUEUED])
    limited = session.exec(select(Job).where(live, col(Job.max_duration_s).is_not(None), Job.attempt > 0))
    for job in list(limited):
        if job.asked is None and worked_s(session, job, jumps) > (job.max_duration_s or 0):
            _stop(session, job)


def worked_s(session: Session, job: Job, jumps: Sequence[tuple[datetime, float]]) -> float:
    """Seconds since a person last let it start anew."""
    query = select(Attempt.started_at, Attempt.ended_at).where(Attempt.job_id == job.id)
    since = _counted_from(session, job)
    if since is not None:
        query = query.where(col(Attempt.started_at) >= since)
    now = utc_now()
    spans = [(start, end or now) for start, end in session.exec(query)]
    lost = [sum(seconds for at, seconds in jumps if start < at <= end) for start, end in spans]
    return sum(max(0.0, (end - start).total_seconds() - gone) for (start, end), gone in zip(spans, lost, strict=True))


def _counted_from(session: Session, job: Job) -> datetime | None:
    """When somebody last queued it again after its end; going on after a pause is no new start."""
    again = col(History.action).in_(("resume", "retry"))
    rows = session.exec(select(History).where(History.job_id == job.id, again).order_by(col(History.id).desc()))
    return next((row.at for row in rows if (row.detail or {}).get("from") != JobState.PAUSED), None)


def _stop(session: Session, job: Job) -> None:
    error = over(job, control.newest_checkpoint(session, job) is not None)
    jobs.note(session, job, CENTER, "max_duration", {"seconds": job.max_duration_s})
    job.error = error
    if job.state == JobState.QUEUED:
        jobs.become(session, job, JobState.CANCELLED, error["message"])
        return
    job.asked, job.makes_way_for = "cancel", None
    session.add(job)
    events.record_state(session, job, error["message"])
    jobs.announce_queue(session, job)


def over(job: Job, has_checkpoint: bool) -> dict[str, Any]:
    has_work = has_checkpoint or job.step > 0
    again = "Resume it to go on from its checkpoint with as many seconds again, or duplicate it."
    return {
        "code": "max_duration",
        "message": f"It took more than the {job.max_duration_s:g} s that it may, and is stopped"
        + (" with its work saved." if has_work else " before its first step."),
        "advice": again if has_work else "Duplicate it with a longer limit (by REST: clone it with `max_duration_s`).",
    }
