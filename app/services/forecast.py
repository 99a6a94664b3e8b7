"""When queued jobs are expected to start and end: the lanes played forward, in the order of claiming."""

import json
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from statistics import median
from typing import Any

from sqlalchemy import String, cast
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.models import HELD, Attempt, Job, JobState, Lane
from app.services import opening, room, waiting
from app.services.needs import fits, is_silent, registered_lanes
from app.services.opening import Opening

# A job further back is given no time: what stands before it will have changed by then.
DEPTH = 1000
NUM_EARLIER = 50
LATEST = 2.0**35  # seconds since 1970; nobody counts on what is later
Span = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Outlook:
    """What a list of jobs shows beside their rows; read once for all of them."""

    lanes: list[tuple[Lane, str]]
    unready: frozenset[int]
    opening: Opening
    positions: dict[int, int]
    spans: dict[int, Span]
    room: int | None

    def waiting_for(self, session: Session, job: Job) -> dict[str, Any] | None:
        """Why a queued job is not claimed yet, beyond its turn."""
        if job.state != JobState.QUEUED:
            return None
        found = waiting.reason(session, job, self.unready, self.lanes) or self.opening.closed(utc_now())
        return found or room.reason(job, self.room)


@dataclass
class _Waiting:
    """A queued job as the play needs it. Times in seconds since 1970."""

    id: int
    rank: int
    lanes: list[int]  # those that fit
    depends_on: list[int]
    earliest: float
    seconds: float | None


@dataclass
class _Play:
    """Lanes that become free, jobs that may start, and what came of it."""

    free: list[float]
    opening: Opening
    ends: dict[int, float | None]
    starts: dict[int, float | None] = field(default_factory=dict)
    later: list[tuple[float, int, _Waiting]] = field(default_factory=list)
    after: dict[int, list[_Waiting]] = field(default_factory=lambda: defaultdict(list))
    freed: deque[_Waiting] = field(default_factory=deque)

    def offer(self, job: _Waiting) -> None:
        """The next job in order, and those that waited for it alone."""
        self._offer(job)
        self._drain()

    def _drain(self) -> None:
        while self.freed:
            self._offer(self.freed.popleft())

    def _offer(self, job: _Waiting) -> None:
        """Placed now, or kept until its time or its dependencies have come."""
        for other in job.depends_on:
            if other not in self.ends:
                self.after[other].append(job)
                return
        ends = [self.ends[other] for other in job.depends_on]
        if any(end is None for end in ends):
            self._settle(job, None, None)
            return
        job.earliest = max([job.earliest, *(end for end in ends if end is not None)])
        lane = self._lane(job)
        if lane is not None and job.earliest > self.free[lane]:
            heappush(self.later, (job.earliest, job.rank, job))
            return
        while lane is not None and self.later and self.later[0][0] <= self.free[lane]:
            self._place(heappop(self.later)[2])
            lane = self._lane(job)
        self._place(job)

    def finish(self) -> None:
        """Nobody else comes: those whose time has yet to come, in the order of their times."""
        while self.later:
            self._place(heappop(self.later)[2])
            self._drain()

    def _lane(self, job: _Waiting) -> int | None:
        """The lane that is free first of those that fit."""
        return min(job.lanes, key=self.free.__getitem__, default=None)

    def _place(self, job: _Waiting) -> None:
        lane = self._lane(job)
        start = None if lane is None else max(self.free[lane], job.earliest)
        start = None if start is None else self._opened(start)
        if lane is None or start is None:
            self._settle(job, None, None)
            return
        end = None if job.seconds is None else start + job.seconds
        # Nobody knows when a lane is free again that takes a job of unknown length.
        self.free[lane] = float("inf") if end is None else end
        self._settle(job, start, end)

    def _opened(self, start: float) -> float | None:
        if start >= LATEST:
            return None
        if not self.opening.paused and not self.opening.quiet_hours:
            return start
        opened = self.opening.open_from(datetime.fromtimestamp(start, UTC))
        return opened.timestamp() if opened is not None else None

    def _settle(self, job: _Waiting, start: float | None, end: float | None) -> None:
        self.starts[job.id], self.ends[job.id] = start, end
        self.freed.extend(self.after.pop(job.id, ()))


def outlook(session: Session, jobs: Sequence[Job]) -> Outlook:
    """For one job or a page of them."""
    lanes, opened = registered_lanes(session), opening.read(session)
    queued = {job.id for job in jobs if job.state == JobState.QUEUED and job.id is not None}
    positions = waiting.positions(session, queued) if queued else {}
    typical = usual_seconds(session)
    held = list(session.exec(select(Job).where(col(Job.state).in_(HELD))))
    spans: dict[int, Span] = {job.id or 0: (None, _moment(end_of_held(job, typical))) for job in held}
    near = {number for number, position in positions.items() if position <= DEPTH}
    return Outlook(
        lanes,
        waiting.unready_datasets(session),
        opened,
        positions,
        spans | (_play(session, lanes, opened, held, typical, near) if near else {}),
        room.left(session) if queued else None,
    )


def _play(
    session: Session,
    registered: list[tuple[Lane, str]],
    opened: Opening,
    held: Sequence[Job],
    typical: Mapping[str, float],
    wanted: Collection[int],
) -> dict[int, Span]:
    now = utc_now().timestamp()
    lanes = [(lane, name) for lane, name in registered if not is_silent(lane) and not lane.draining]
    ends = {job.id or 0: end_of_held(job, typical) for job in held}
    busy = {job.lane_id: ends[job.id or 0] for job in held}
    free = [max(now, float("inf") if (end := busy.get(lane.id, now)) is None else end) for lane, _ in lanes]
    play = _Play(free, opened, dict(ends))
    left = set(wanted)
    for job in _queue(session, lanes, typical, now):
        play.offer(_known(session, job, play))
        left.discard(job.id)
        if not left and not play.later and not play.after:
            break
    play.finish()
    return {one: (_moment(play.starts[one]), _moment(play.ends[one])) for one in wanted if one in play.starts}


def _known(session: Session, job: _Waiting, play: _Play) -> _Waiting:
    """The job without dependencies that are through; one that is neither queued nor held has no end to expect."""
    for number in list(job.depends_on):
        other = session.get(Job, number) if number not in play.ends else None
        if other is not None and other.state == JobState.SUCCEEDED:
            job.depends_on.remove(number)
        elif other is not None and other.state != JobState.QUEUED:
            play.ends[number] = None
    return job


def _queue(
    session: Session, lanes: list[tuple[Lane, str]], typical: Mapping[str, float], now: float
) -> Iterator[_Waiting]:
    """The first queued jobs, next first, read as plain columns."""
    query = (
        select_columns(
            col(Job.id),
            col(Job.model),
            cast(col(Job.needs), String),
            cast(col(Job.depends_on), String),
            col(Job.start_after),
            col(Job.estimate)["seconds"].as_float(),
            col(Job.max_duration_s),
            col(Job.step),
            col(Job.num_steps),
        )
        .where(col(Job.state) == JobState.QUEUED)
        .order_by(*waiting.ORDER)
        .limit(DEPTH)
    )
    session.flush()
    rows = session.connection().execute(query)
    fitting: dict[str | None, list[int]] = {}
    for rank, (number, model, needs, depends, after, seconds, most, step, steps) in enumerate(rows):
        if needs not in fitting:
            asked = json.loads(needs) if needs else None
            fitting[needs] = [place for place, (lane, name) in enumerate(lanes) if fits(asked, lane, name)]
        earliest = max(now, after.timestamp()) if after else now
        left = remaining(seconds or typical.get(model), most, step, steps)
        others = [] if depends == waiting.NO_JOBS else json.loads(depends)
        yield _Waiting(number, rank, fitting[needs], others, earliest, left)


def remaining(seconds: float | None, most: float | None, step: int, num_steps: int | None) -> float | None:
    """Seconds that are left of a job; at most those it may take."""
    if seconds is None:
        return most
    left = seconds * (1 - min(step, num_steps) / num_steps) if num_steps else seconds
    return left if most is None else min(left, most)


def end_of_held(job: Job, typical: Mapping[str, float]) -> float | None:
    """When a lane will be done with the job, in seconds since 1970."""
    now = utc_now().timestamp()
    if job.asked or job.makes_way_for is not None:
        return now
    if job.state == JobState.RUNNING and job.eta_s is not None:
        return now + job.eta_s
    seconds = (job.estimate or {}).get("seconds") or typical.get(job.model)
    left = remaining(seconds, job.max_duration_s, job.step, job.num_steps)
    return None if left is None else now + left


def usual_seconds(session: Session) -> dict[str, float]:
    """For each base model the median of what the newest jobs took that succeeded, without what lay between attempts."""
    newest = select(Job.id, Job.model).where(Job.state == JobState.SUCCEEDED)
    models = dict(session.exec(newest.order_by(col(Job.id).desc()).limit(NUM_EARLIER)).all())
    query = select(Attempt.job_id, Attempt.started_at, Attempt.ended_at).where(col(Attempt.job_id).in_(models))
    took: dict[int, float] = defaultdict(float)
    for job_id, start, end in session.exec(query):
        took[job_id] += (end - start).total_seconds() if end else 0.0
    of_model: dict[str, list[float]] = defaultdict(list)
    for job_id, seconds in took.items():
        of_model[models[job_id]].append(seconds)
    return {model: middle for model, found in of_model.items() if (middle := median(found)) > 0}


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None or seconds >= LATEST else datetime.fromtimestamp(seconds, UTC)
