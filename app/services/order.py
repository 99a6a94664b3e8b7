"""The order of the queue as people change it: a job moved to another place, a running one that makes way."""

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.errors import Conflict, wrong_field
from app.models import ENDED, HELD, Job, JobState, Lane
from app.services import events, jobs, opening, waiting


def move(session: Session, job: Job, who: str, before: int | None, position: int | None) -> None:
    """Put a queued job before another, or at a position (1 = next); it takes the priority of the one behind it."""
    if job.state != JobState.QUEUED:
        raise Conflict(f"Job {job.id} is {job.state}; only a queued job has a place to be moved from.")
    behind = _named(session, job, before) if before is not None else _at(session, job, position or 1)
    detail = {"before": before} if before is not None else {"position": position}
    jobs.note(session, job, who, "move", detail)
    if behind is not None:
        _put(session, job, behind.priority, after=None, before=behind)
    elif (last := _last(session, job)) is not None:
        _put(session, job, max(job.priority, last.priority), after=last, before=None)
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


def _put(session: Session, job: Job, priority: int, after: Job | None, before: Job | None) -> None:
    """Give the job the priority, and the place right behind `after` or right before `before`."""
    place = _free_place(session, job, after, before)
    if place is None:
        _spread(session)
        place = _free_place(session, job, after, before)
    assert place is not None
    job.priority, job.place = priority, place
    session.add(job)


def _free_place(session: Session, job: Job, after: Job | None, before: Job | None) -> int | None:
    """A number between the neighbour and the next job that is not over; None where their numbers leave no room."""
    others = (Job.id != job.id, col(Job.state).not_in(ENDED))
    if before is not None:
        lower = session.exec(select(func.max(Job.place)).where(*others, Job.place <= before.place, Job.id != before.id))
        low, high = lower.one(), before.place
        low = high - 2 * jobs.GAP if low is None else low
    else:
        assert after is not None
        upper = session.exec(select(func.min(Job.place)).where(*others, Job.place >= after.place, Job.id != after.id))
        low, high = after.place, upper.one() or jobs.next_place(session) + jobs.GAP
    return (low + high) // 2 if high - low > 1 else None


def _spread(session: Session) -> None:
    """Number all jobs that are not over anew, in the same order, with room between them."""
    session.flush()
    rank = func.row_number().over(order_by=(col(Job.place), col(Job.id)))
    numbered = select(Job.id, (rank * jobs.GAP).label("place")).where(col(Job.state).not_in(ENDED)).subquery()
    session.exec(
        update(Job).where(col(Job.id) == numbered.c.id).values(place=numbered.c.place),
        execution_options={"synchronize_session": False},
    )
    session.expire_all()


def preempt(session: Session, job: Job, who: str) -> None:
    """Let a running job save and go back to the queue, behind the first queued job that its lane could take."""
    if job.state not in HELD:
        raise Conflict(f"Job {job.id} is {job.state}; only a job that a lane holds can make way.")
    if job.asked or job.makes_way_for is not None:
        raise Conflict(f"Job {job.id} is {'stopping' if job.asked else 'making way'} already.")
    if (closed := opening.read(session).closed(utc_now())) is not None:
        raise Conflict(f"Job {job.id} keeps its lane: {closed['message']}, so no other would take it.")
    lane = session.get(Lane, job.lane_id) if job.lane_id is not None else None
    other = waiting.first_for(session, lane) if lane is not None else None
    if other is None:
        raise Conflict(f"No queued job could start on the lane of job {job.id}, so it keeps it.")
    jobs.note(session, job, who, "preempt", {"for": other.id})
    job.makes_way_for = other.id
    session.add(job)
    events.record_state(session, job, f"Making way for job {other.id}", makes_way_for=other.id)
    jobs.announce_queue(session, job)


def make_way(session: Session, job: Job) -> str:
    """Give a job that leaves its lane the place behind the one it makes way for; what to say of it."""
    other = session.get(Job, job.makes_way_for) if job.makes_way_for is not None else None
    if other is None or other.state != JobState.QUEUED:
        # It was claimed by another lane or called off meanwhile.
        lane = session.get(Lane, job.lane_id) if job.lane_id is not None else None
        other = waiting.first_for(session, lane) if lane is not None else None
    if other is None:
        return "Nothing waits for its lane any more; it goes on from its newest checkpoint"
    following = next(iter(waiting.page(session, 1, other)), None)
    lowest = following.priority if following is not None else max(other.priority, job.priority)
    priority = min(max(job.priority, other.priority), lowest)
    if following is not None and priority == following.priority != other.priority:
        _put(session, job, priority, after=None, before=following)
    elif priority == other.priority:
        _put(session, job, priority, after=other, before=None)
    return f"Makes way for job {other.id}; it goes on from its newest checkpoint"
