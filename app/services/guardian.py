"""What the instruments of a lane say about the job it holds, as `advice`; each kind once an attempt."""

from typing import Any, TypeGuard

from sqlmodel import Session, col, select

from app.hub import iso
from app.models import Event, Job
from app.services import events

LOW_DISK_BYTES = 5 * 2**30
GIB = 2**30


def watch(session: Session, job: Job, telemetry: dict[str, Any]) -> None:
    """Compare one reading with what the job allows; say what is wrong with it, unless that was said."""
    if job.config.get("guardian") == "off":
        return
    limit, temperature, free = (
        job.config.get("max_temperature"),
        telemetry.get("temperature"),
        telemetry.get("disk_free"),
    )
    if limit is not None and _is_number(temperature) and temperature > limit:
        message = f"The GPU is at {temperature:.0f} degrees, above the {limit:g} allowed for this job."
        _say(session, job, "gpu_hot", message, "See to its fans and the air around it, or lower its power limit.")
    if _is_number(free) and free < LOW_DISK_BYTES:
        message = f"Only {free / GIB:.1f} GB are free on the worker's disk; checkpoints need room."
        _say(session, job, "disk_low", message, "Free some space there before the next checkpoint is written.")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _say(session: Session, job: Job, code: str, message: str, action: str) -> None:
    said = select(Event.data).where(Event.job_id == job.id, Event.kind == "advice", Event.attempt == job.attempt)
    if all(data.get("code") != code for data in session.exec(said)):
        events.record_of_job(session, job, "advice", {"code": code, "message": message, "action": action})


def newest(session: Session, job_id: int) -> list[dict[str, Any]]:
    """The last advice of each sort about a job, newest first, with when it was given."""
    query = select(Event).where(Event.job_id == job_id, Event.kind == "advice").order_by(col(Event.id).desc())
    blank = {"code": "", "message": "", "action": ""}
    found: dict[str, dict[str, Any]] = {}
    for event in session.exec(query):
        step = event.data.get("step")
        told = blank | event.data | {"step": step if _is_number(step) else None, "at": iso(event.at)}
        found.setdefault(str(told["code"]), told)
    return list(found.values())
