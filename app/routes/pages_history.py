"""What was done with a job, by whom and when, and its attempts: in words, for its page."""

from typing import Any

from sqlmodel import Session, col, select

from app.deeds import deed_words, who_words
from app.hub import iso
from app.models import Attempt
from app.services import jobs

OUTCOMES = {
    None: ("running", "in work"),
    "succeeded": ("succeeded", "finished"),
    "failed": ("failed", "failed"),
    "cancelled": ("cancelled", "stopped"),
    "paused": ("paused", "paused"),
    "fault": ("failed", "ended by a fault"),
    "released": ("paused", "given back"),
    "preempted": ("paused", "made way"),
}


def of_job(session: Session, job_id: int) -> dict[str, Any]:
    """Newest first, both."""
    return {"deeds": _deeds(session, job_id), "attempts": _attempts(session, job_id)}


def _deeds(session: Session, job_id: int) -> list[dict[str, Any]]:
    rows = reversed([jobs.history_view(row) for row in jobs.history(session, job_id)])
    return [row | {"by": _capital(who_words(row["who"])), "words": deed_words(row)} for row in rows]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _attempts(session: Session, job_id: int) -> list[dict[str, Any]]:
    rows = session.exec(select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.number).desc()))
    return [_attempt(session, row) for row in rows]


def _attempt(session: Session, row: Attempt) -> dict[str, Any]:
    state, words = OUTCOMES.get(row.outcome, ("queued", str(row.outcome)))
    return {
        "number": row.number,
        "lane": jobs.lane_name(session, row.lane_id),
        "resume_step": row.resume_step,
        "state": state,
        "words": words,
        "message": (row.error or {}).get("message"),
        "started_at": iso(row.started_at),
        "ended_at": iso(row.ended_at),
    }
