"""The order of the queue as people change it: a job moved to another place, a running one that makes way."""

from sqlmodel import Session, select

from app.columns import utc_now
from app.errors import Conflict, wrong_field
from app.models import HELD, Job, JobState, Lane
from app.services import events, jobs, opening, places, settings, waiting


def move(session: Session, job: Job, who: str, before: int | None, position: int | None) -> None:
    """Put a queued job before another, or at a position (1 = next); it takes the priority of the one behind it."""
    if job.state != JobState.QUEUED:
        raise Conflict(f"Job {job.id} is {job.state}; only a queued job has a place to be moved from.")
    behind = _named(session, job, before) if before is not None else _at(session, job, position or 1)
    detail = {"before": before} if before is not None else {"position": position}
    jobs.note(session, job, who, "move", detail)
    if behind is not None:
        places.put(session, job, behind.priority, after=None, before=behind)
    elif (last := _last(session, job)) is not None:
        places.put(session, job, max(job.priority, last.priority), after=last, before=None)
    session.flush()
    jobs.announce_queue(session, job)


def _named(session: Session, job: Job, before: int) -> Job:
    other = session.get(Job, before)
    if other is None:
        raise wrong_field("before", f"there is no job {before}")
    if other.id == job.id:
        raise wrong_field("before", "a job cannot stand before itself")
    if other.state != JobState.QUEUED:
        raise Conflict(f"Job {before} is {other.state} and has no place in the queue any more.")
    return other


def _at(session: Session, job: Job, position: int) -> Job | None:
    """The job that would stand at that position if this one were not there; None beyond the end."""
    others = select(Job).where(Job.state == JobState.QUEUED, Job.id != job.id)
    return session.exec(others.order_by(*waiting.ORDER).offset(position - 1).limit(1)).first()


def _last(session: Session, job: Job) -> Job | None:
    others = select(Job).where(Job.state == JobState.QUEUED, Job.id != job.id)
    return session.exec(others.order_by(*(one.desc() for one in waiting.ORDER)).limit(1)).first()


def preempt(session: Session, job: Job, who: str) -> None:
    """Let a running job save and go back to the queue, behind the first queued job that its lane could take."""
    if job.state not in HELD:
        raise Conflict(f"Job {job.id} is {job.state}; only a job that a lane holds can make way.")
    if job.asked or job.makes_way_for is not None:
        raise Conflict(f"Job {job.id} is {'stopping' if job.asked else 'making way'} already.")
    if (closed := opening.read(session).closed(utc_now())) is not None:
        raise Conflict(f"Job {job.id} keeps its lane: {closed['message']}, so no other would take it.")
    lane = session.get(Lane, job.lane_id) if job.lane_id is not None else None
    other = waiting.first_for(session, lane) if lane is not None and not lane.draining else None
    if other is None:
        raise Conflict(f"No queued job could start on the lane of job {job.id}, so it keeps it.")
    jobs.note(session, job, who, "preempt", {"for": other.id})
    job.makes_way_for = other.id
    session.add(job)
    events.record_state(session, job, f"Making way for job {other.id}", makes_way_for=other.id)
    jobs.announce_queue(session, job)


def open_or_close(session: Session, wanted: opening.Change, who: str) -> None:
    """Pause or open the queue, set the quiet hours. Jobs that lanes hold go on in any case."""
    value = opening.plain(opening.read(session))
    if wanted.paused is not None:
        value["paused"] = wanted.paused
    if wanted.quiet_hours is not None:
        value["quiet_hours"] = [one.model_dump(by_alias=True) for one in wanted.quiet_hours]
    settings.put(session, opening.QUEUE, value | {"changed_by": who})
    session.flush()
    events.record(session, "queue", {"jobs": [], **value, "changed_by": who})
