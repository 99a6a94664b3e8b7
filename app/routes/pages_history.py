"""What was done with a job, by whom and when, and its attempts: in words, for its page."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from app.hub import iso
from app.models import Attempt
from app.services import jobs

WORDS = {
    "create": "added it",
    "cancel": "stopped it",
    "pause": "paused it",
    "resume": "let it go on",
    "retry": "started it anew",
    "save": "asked for a checkpoint",
    "sample": "asked for samples",
    "priority": "changed its priority",
    "move": "moved it in the queue",
    "preempt": "let another job go first",
    "max_duration": "stopped it at its longest duration",
    "trash": "moved it to the trash",
    "restore": "took it out of the trash",
}
WHO = {"page": "By the page", "api": "By REST"}
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
    return [row | {"by": WHO.get(row["who"], row["who"].capitalize()), "words": _words(row)} for row in rows]


def _words(row: Mapping[str, Any]) -> str:
    detail = row["detail"] or {}
    words: str = WORDS.get(row["action"], row["action"].replace("_", " "))
    match row["action"]:
        case "cancel" if detail.get("save") is False:
            return f"{words} at once"
        case "resume" if detail.get("step"):
            return f"{words} from step {detail['step']:,}"
        case "priority":
            return f"{words} to {detail.get('priority')}"
        case "preempt" if detail.get("for"):
            return f"{words} (job {detail['for']})"
        case "move":
            return f"{words}{_where(detail)}"
    return words


def _where(detail: Mapping[str, Any]) -> str:
    if detail.get("before"):
        return f", before job {detail['before']}"
    return f", to place {detail['position']}" if detail.get("position") else ""


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
