"""Where a job stands in the queue: places are numbers with room between them."""

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from app.models import ENDED, Job, JobState, Lane
from app.services import waiting

GAP = 1 << 16  # between neighbours, so that a job can be moved between them


def next_place(session: Session) -> int:
    return (session.exec(select(func.max(Job.place))).one() or 0) + GAP


def put(session: Session, job: Job, priority: int, after: Job | None, before: Job | None) -> None:
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
        low = high - 2 * GAP if low is None else low
    else:
        assert after is not None
        upper = session.exec(select(func.min(Job.place)).where(*others, Job.place >= after.place, Job.id != after.id))
        low, high = after.place, upper.one() or next_place(session) + GAP
    return (low + high) // 2 if high - low > 1 else None


def _spread(session: Session) -> None:
    """Number all jobs that are not over anew, in the same order, with room between them."""
    session.flush()
    rank = func.row_number().over(order_by=(col(Job.place), col(Job.id)))
    numbered = select(Job.id, (rank * GAP).label("place")).where(col(Job.state).not_in(ENDED)).subquery()
    session.exec(
        update(Job).where(col(Job.id) == numbered.c.id).values(place=numbered.c.place),
        execution_options={"synchronize_session": False},
    )
    session.expire_all()


def make_way(session: Session, job: Job) -> str:
    """Give a job that leaves its lane the place behind the one it makes way for; what to say of it."""
    other = session.get(Job, job.makes_way_for) if job.makes_way_for is not None else None
    if other is None or other.state != JobState.QUEUED:
        # It was claimed by another lane or called off meanwhile.
        lane = session.get(Lane, job.lane_id) if job.lane_id is not None else None
        other = waiting.first_for(session, lane) if lane is not None else None
        if other is not None and other.priority > job.priority:
            other = None  # a person asked for way for another one; for this one nobody did
    if other is None:
        return "Nothing waits for its lane any more; it goes on from its newest checkpoint"
    following = next(iter(waiting.page(session, 1, other)), None)
    lowest = following.priority if following is not None else max(other.priority, job.priority)
    priority = min(max(job.priority, other.priority), lowest)
    if following is not None and priority == following.priority != other.priority:
        put(session, job, priority, after=None, before=following)
    elif priority == other.priority:
        put(session, job, priority, after=other, before=None)
    return f"Makes way for job {other.id}; it goes on from its newest checkpoint"
