"""What workers report of a job they hold: claim, beat, end; and what happens when they fall silent."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from app.columns import utc_now
from app.db import announce_work
from app.errors import Fenced
from app.models import HELD, Adapter, Attempt, Dataset, Event, Job, JobState, Lane
from app.services import (
    adapters,
    black_boxes,
    checkpoints,
    claim_view,
    control,
    events,
    ingest,
    jobs,
    opening,
    places,
    waiting,
)

SET_ASIDE = ("cancelled", "paused", "released")
# A lane beats every second: after so many without one its whole node is taken for lost.
NODE_SILENT_S = 3.0


def claimed_before(session: Session, lane: Lane, lease_s: float, key: str | None) -> dict[str, Any] | None:
    """The claim that a worker made with this key and did not hear of; any other job of the lane is taken from it."""
    for held in list(session.exec(select(Job).where(Job.lane_id == lane.id, col(Job.state).in_(HELD)))):
        attempt = _newest_attempt(session, held)
        if key is not None and attempt.claim_key == key:
            return claim_view.of(session, held, control.newest_checkpoint(session, held), lease_s)
        lose(session, held, "worker_restarted", "Its worker was started again while it held the job.")
    return None


def claim(session: Session, lane: Lane, lease_s: float, key: str | None = None) -> dict[str, Any] | None:
    """Give a lane that holds no job the best one it can train, or None."""
    job = waiting.first_for(session, lane) if opening.is_open(session) else None
    lane.idle = job is None
    lane.last_seen_at = utc_now()
    session.add(lane)
    if job is None:
        return None
    resume = None if job.fresh_start else control.newest_checkpoint(session, job)
    job.attempt += 1
    job.claim_token = secrets.token_urlsafe(24)
    job.lane_id = lane.id
    job.lease_until = time.time() + lease_s
    job.started_at = job.started_at or utc_now()
    attempt = Attempt(
        job_id=job.id or 0,
        number=job.attempt,
        claim_token=job.claim_token,
        claim_key=key,
        lane_id=lane.id,
        resume_step=resume.step if resume else 0,
    )
    session.add(attempt)
    job.phase, job.fresh_start = "claimed", False
    job.step = ingest.supersede(session, job, attempt.number, attempt.resume_step)
    message = f"Taken by {jobs.lane_name(session, lane.id)}"
    jobs.become(session, job, JobState.CLAIMED, message, resume_step=attempt.resume_step)
    return claim_view.of(session, job, resume, lease_s)


def _newest_attempt(session: Session, job: Job) -> Attempt:
    return session.exec(select(Attempt).where(Attempt.job_id == job.id, Attempt.number == job.attempt)).one()


def get_attempt(session: Session, job_id: int, number: int, token: str) -> tuple[Job, Attempt]:
    """The attempt that really was given this token; raises `Fenced` otherwise."""
    job = jobs.get(session, job_id)
    attempt = session.exec(select(Attempt).where(Attempt.job_id == job_id, Attempt.number == number)).first()
    if attempt is None or not secrets.compare_digest(attempt.claim_token.encode(), token.encode()):
        raise Fenced
    return job, attempt


def holds(job: Job, attempt: Attempt) -> bool:
    return job.state in HELD and job.attempt == attempt.number


def get_held(session: Session, job_id: int, number: int, token: str) -> tuple[Job, Attempt]:
    """The job, where this attempt holds it now; raises `Fenced` otherwise."""
    job, attempt = get_attempt(session, job_id, number, token)
    if not holds(job, attempt):
        raise Fenced
    return job, attempt


def beat(
    session: Session,
    job: Job,
    attempt: Attempt,
    reported: Sequence[dict[str, Any]],
    lease_s: float,
    earlier: bool,
    heard: int = 0,
) -> dict[str, Any]:
    """Take the events, renew the lease, answer with what is asked of the trainer.

    `earlier` says that these come from the spool of an attempt that has ended; a living one must hear it was fenced.
    `heard` is the mark of the last answer that reached the worker: what was asked up to it is not said again.
    """
    if earlier:
        return _late_beat(session, job, attempt, reported)
    if not holds(job, attempt):
        raise Fenced
    job.lease_until = time.time() + lease_s
    session.add(job)
    ingest.take(session, job, attempt, reported)
    commands = []
    if job.asked:
        commands.append("stop" if job.asked == "cancel" and job.stop_now else job.asked)
    elif job.makes_way_for is not None:
        # The trainer saves and stops as for a pause; where the job goes then is decided here.
        commands.append("pause")
    errands, mark = control.errands(session, job, heard)
    return {"commands": commands + errands, "mark": mark, "seq": attempt.last_seq}


def _late_beat(session: Session, job: Job, attempt: Attempt, reported: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Steps that a fenced attempt made before the point from which its successor goes on are still welcome."""
    successor = session.exec(
        select(Attempt).where(Attempt.job_id == job.id, Attempt.number == attempt.number + 1)
    ).first()
    if successor is None:
        raise Fenced
    ingest.take_late(session, job, attempt, reported, up_to_step=successor.resume_step)
    return {"commands": [], "seq": attempt.last_seq}


def end(session: Session, job: Job, attempt: Attempt, report: dict[str, Any]) -> None:
    """Bring the job into the state its attempt ended in; saying the same twice changes nothing."""
    if attempt.reported:
        return
    if not holds(job, attempt):
        raise Fenced
    attempt.reported = True
    outcome, error = report["outcome"], events.without_nan(report.get("error"))
    is_damaged = (error or {}).get("code") == "checkpoint_broken"
    if is_damaged and checkpoints.discard(session, job, attempt) and outcome == "crashed" and not job.asked:
        _go_on_without(session, job, attempt, error or {})
        black_boxes.keep(session, job, attempt, report)
        return
    if outcome == "succeeded":
        _succeed(session, job, attempt, report)
    elif outcome == "failed":
        _finish(session, job, attempt, JobState.FAILED, error)
    elif outcome in SET_ASIDE or job.asked or job.makes_way_for:
        _set_aside(session, job, attempt, outcome)
        if outcome not in SET_ASIDE:
            _tell_unsaved(session, job, attempt, error or {})
            black_boxes.keep(session, job, attempt, report)
    else:
        _crash(session, job, attempt, error or {}, report.get("exit"))
    if attempt.outcome in ("fault", JobState.FAILED):
        black_boxes.keep(session, job, attempt, report)


def _succeed(session: Session, job: Job, attempt: Attempt, report: dict[str, Any]) -> None:
    if job.state == JobState.CLAIMED:
        jobs.become(session, job, JobState.RUNNING)
    adapters.register(session, job, attempt.number, report.get("adapter") or {})
    job.error = None
    _finish(session, job, attempt, JobState.SUCCEEDED, None)


def _finish(session: Session, job: Job, attempt: Attempt, state: JobState, error: dict[str, Any] | None) -> None:
    attempt.outcome, attempt.error, attempt.ended_at = state, error, utc_now()
    session.add(attempt)
    if error is not None:
        job.error = {"code": error.get("code"), "message": error.get("message"), "advice": error.get("advice")}
    jobs.become(session, job, state, (error or {}).get("message") or "")


def _set_aside(session: Session, job: Job, attempt: Attempt, outcome: str) -> None:
    """Cancelled or paused as was asked; else back into the queue, which is no fault of the job's."""
    if job.asked == "cancel" or (outcome == "cancelled" and job.asked is None):
        _finish(session, job, attempt, JobState.CANCELLED, None)
    elif job.asked == "pause" or (outcome == "paused" and job.makes_way_for is None):
        _finish(session, job, attempt, JobState.PAUSED, None)
    else:
        attempt.outcome, attempt.ended_at = "released", utc_now()
        session.add(attempt)
        message = "Its worker was stopped; it goes on from its newest checkpoint"
        if job.makes_way_for is not None:
            message = places.make_way(session, job)
        jobs.become(session, job, JobState.QUEUED, message)


def _tell_unsaved(session: Session, job: Job, attempt: Attempt, error: dict[str, Any]) -> None:
    """It was asked to save and stop, and its trainer ended before it had saved."""
    attempt.error = error
    session.add(attempt)
    if job.error is None and job.state in (JobState.PAUSED, JobState.CANCELLED):
        message = f"{error.get('message') or 'Its trainer ended.'} That was before it had saved what it was asked to."
        advice = "Resume goes on from its newest checkpoint, where it has one."
        job.error = {"code": error.get("code") or "crashed", "message": message, "advice": advice}
        session.add(job)


def _crash(
    session: Session, job: Job, attempt: Attempt, error: dict[str, Any], exit_status: dict[str, Any] | None
) -> None:
    """The trainer ended by itself: queued again while there is hope, else failed."""
    cause = {"code": error.get("code") or "crashed", "exit": exit_status}
    stepped = select(Event.id).where(Event.job_id == job.id, Event.attempt == attempt.number, Event.kind == "step")
    again = job.last_fault == cause and session.exec(stepped.limit(1)).first() is None
    if again:
        error = error | {
            "message": f"{error.get('message', 'The trainer crashed.')} It happened twice without a step between."
        }
    _count_fault(session, job, attempt, cause, error, hopeless=again)


def _go_on_without(session: Session, job: Job, attempt: Attempt, error: dict[str, Any]) -> None:
    """Queued again, to go on from the checkpoint before the damaged one. No fault: each time one checkpoint is less."""
    attempt.outcome, attempt.error, attempt.ended_at = "fault", error, utc_now()
    session.add(attempt)
    events.log(session, job, f"{error.get('message')} It is not used again.", "warning")
    jobs.become(session, job, JobState.QUEUED, "Its newest checkpoint is damaged; it goes on from the one before")


def _count_fault(
    session: Session, job: Job, attempt: Attempt, cause: dict[str, Any], error: dict[str, Any], hopeless: bool = False
) -> None:
    job.faults += 1
    job.last_fault = cause
    if hopeless or job.faults > job.retries:
        _finish(session, job, attempt, JobState.FAILED, error)
        return
    attempt.outcome, attempt.error, attempt.ended_at = "fault", error, utc_now()
    session.add(attempt)
    events.log(session, job, f"{error.get('message')} Queued again ({job.faults} of {job.retries} faults).", "warning")
    jobs.become(session, job, JobState.QUEUED, error.get("message") or "")


def lose(session: Session, job: Job, code: str, message: str) -> None:
    """Take the job from a worker that fell silent or was started anew."""
    attempt = _newest_attempt(session, job)
    error = {"code": code, "message": message, "advice": "It goes on from its newest checkpoint on the next free lane."}
    if job.asked or job.makes_way_for is not None:
        _set_aside(session, job, attempt, "lost")
    else:
        _count_fault(session, job, attempt, {"code": code, "exit": None}, error)
    black_boxes.keep(session, job, attempt)


def reap(session: Session) -> int:
    """Take back every job whose lease ran out; returns how many."""
    late = list(session.exec(select(Job).where(col(Job.state).in_(HELD), col(Job.lease_until) < time.time())))
    for job in late:
        lose(session, job, *_why_silent(session, job))
    return len(late)


def _why_silent(session: Session, job: Job) -> tuple[str, str]:
    """Code and sentence of a lease that ran out: the node is gone, or only what supervised the job."""
    lane = session.get(Lane, job.lane_id) if job.lane_id else None
    name = jobs.lane_name(session, job.lane_id)
    if lane is not None and (utc_now() - lane.last_seen_at).total_seconds() < NODE_SILENT_S:
        return "lease_lost", f"{name} beats, but the process that supervised the job fell silent."
    return "node_lost", f"{name} fell silent: its machine, its worker or the link to it is gone."


def extend_leases(session: Session, lease_s: float) -> None:
    """Called when the web process starts: its own absence must not cost a worker its job."""
    for job in session.exec(select(Job).where(col(Job.state).in_(HELD))):
        job.lease_until = time.time() + 2 * lease_s
        session.add(job)
    announce_work(session)


def release_waiting(session: Session, dataset: Dataset) -> None:
    """Once a dataset is judged: its waiting jobs may be claimed, or are cancelled with its error."""
    announce_work(session)
    if dataset.state == "ready":
        return
    for job in jobs.in_queue_order(session):
        if job.state != JobState.QUEUED or dataset.id not in waiting.dataset_ids(job):
            continue
        job.error = {
            "code": "dataset_refused",
            "message": f"Dataset {dataset.id} is {dataset.state}: {dataset.error}",
            "advice": "Mend the dataset, add it again, and make a new job on it.",
        }
        jobs.become(session, job, JobState.CANCELLED, job.error["message"])


def ended_view(session: Session, job: Job) -> dict[str, Any]:
    """What a worker hears when it reported an end."""
    return {"state": job.state, "adapter_id": session.exec(select(Adapter.id).where(Adapter.job_id == job.id)).first()}
