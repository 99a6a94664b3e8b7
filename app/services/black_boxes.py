"""What was last seen of an attempt that ended badly: kept with the attempt, bounded, and read back."""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from sqlmodel import Session, col, select

from app.errors import NotFound
from app.hub import iso
from app.models import Attempt, Event, Job
from app.services import events, jobs

NUM_EVENTS, NUM_LINES, NUM_SAMPLES = 200, 200, 120
TELEMETRY_S = 120
EVENT_BYTES, LINE_BYTES, SAMPLE_BYTES = 120_000, 80_000, 40_000  # together they stay below 256 kB
LONGEST_TEXT, LONGEST_LIST = 1000, 20

One = TypeVar("One")


def keep(session: Session, job: Job, attempt: Attempt, report: dict[str, Any] | None = None) -> None:
    """Fill the attempt's black box. `report` is what its worker told at the end; a lost worker told nothing."""
    session.flush()
    report = report or {}
    lines = _told_lines(session, attempt) + [str(one) for one in report.get("log") or []]
    error = {key: one for key, one in (attempt.error or {}).items() if key in ("code", "message", "advice")}
    attempt.black_box = {
        "error": events.without_nan(shorten(error)) or None,
        "exit": events.without_nan(shorten(report.get("exit"))),
        "step": job.step,
        "events": newest_that_fit(_events(session, attempt), EVENT_BYTES),
        "log": newest_that_fit([line[:LONGEST_TEXT] for line in lines], LINE_BYTES),
        "telemetry": newest_that_fit(_telemetry(session, attempt), SAMPLE_BYTES),
    }
    session.add(attempt)


def _events(session: Session, attempt: Attempt) -> list[dict[str, Any]]:
    query = select(Event).where(Event.job_id == attempt.job_id, Event.attempt == attempt.number)
    newest = session.exec(query.order_by(col(Event.id).desc()).limit(NUM_EVENTS))
    return [
        {"id": one.id, "seq": one.seq, "at": iso(one.at), "kind": one.kind, "data": shorten(one.data)}
        for one in reversed(list(newest))
    ]


def _told_lines(session: Session, attempt: Attempt) -> list[str]:
    """The last lines that arrived as events: all there is of a lost worker, else followed by the trainer's output."""
    query = select(Event).where(Event.job_id == attempt.job_id, Event.attempt == attempt.number, Event.kind == "log")
    newest = session.exec(query.order_by(col(Event.id).desc()).limit(NUM_LINES))
    return [f"{iso(one.at)} {one.data.get('text', '')}" for one in reversed(list(newest))]


def _telemetry(session: Session, attempt: Attempt) -> list[dict[str, Any]]:
    """The last two minutes that the lane showed while it held the job."""
    query = select(Event).where(
        Event.lane_job_id == attempt.job_id, Event.kind == "telemetry", Event.lane_id == attempt.lane_id
    )
    query = query.where(col(Event.at) >= attempt.started_at)
    newest = list(session.exec(query.order_by(col(Event.id).desc()).limit(NUM_SAMPLES)))
    recent = [one for one in newest if one.at >= newest[0].at - timedelta(seconds=TELEMETRY_S)]
    return [{"at": iso(one.at)} | shorten(one.data) for one in reversed(recent)]


def newest_that_fit(items: list[One], num_bytes: int) -> list[One]:
    """As many of the last items as their JSON has room."""
    kept: list[One] = []
    for one in reversed(items):
        num_bytes -= len(json.dumps(one, ensure_ascii=False).encode()) + 2
        if num_bytes < 0:
            break
        kept.append(one)
    return kept[::-1]


def shorten(value: Any) -> Any:
    """The value with long texts and long lists cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + " ..."
    if isinstance(value, dict):
        return {key: shorten(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shorten(one) for one in value[:LONGEST_LIST]]
    return value


def view_all(session: Session, job_id: int) -> list[dict[str, Any]]:
    """Every attempt of the job, oldest first."""
    jobs.get(session, job_id)
    rows = session.exec(select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.number)))
    return [_view(session, one) for one in rows]


def _view(session: Session, attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "lane": jobs.lane_name(session, attempt.lane_id),
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "outcome": attempt.outcome,
        "error": attempt.error,
        "resume_step": attempt.resume_step,
        "black_box": attempt.black_box is not None,
    }


def view(session: Session, job_id: int, number: int) -> dict[str, Any]:
    """The black box of one attempt; raises `NotFound` where the attempt or the box is not there."""
    jobs.get(session, job_id)
    attempt = session.exec(select(Attempt).where(Attempt.job_id == job_id, Attempt.number == number)).first()
    if attempt is None:
        raise NotFound(f"Job {job_id} has no attempt {number}.")
    if attempt.black_box is None:
        raise NotFound(f"Attempt {number} of job {job_id} has no black box: it did not end badly.")
    return _whole(session, attempt)


def newest(session: Session, job_id: int) -> dict[str, Any] | None:
    """The black box of the last attempt that ended badly."""
    query = select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.number).desc())
    return next((_whole(session, one) for one in _bad(session.exec(query))), None)


def _bad(attempts: Iterable[Attempt]) -> Iterable[Attempt]:
    return (one for one in attempts if one.black_box is not None)


def _whole(session: Session, attempt: Attempt) -> dict[str, Any]:
    return _view(session, attempt) | (attempt.black_box or {})
