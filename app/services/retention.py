"""How long things are kept: checkpoints of jobs that have ended, what lies in the trash, daily backups."""

from datetime import timedelta
from typing import Any

from pydantic import Field, ValidationError
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.errors import WrongInput
from app.models import ENDED, Checkpoint, Job, JobState, Setting
from app.schemas import Body, field_errors

NAME = "retention"
LONGEST_DAYS = 36_500


class Retention(Body):
    """Null keeps for ever. Adapters and datasets never go by themselves."""

    max_age_days: float | None = Field(None, gt=0, le=LONGEST_DAYS)
    max_bytes: int | None = Field(None, ge=0, le=2**62)
    trash_days: float = Field(14, ge=0, le=LONGEST_DAYS)
    daily_backups: int = Field(7, ge=0, le=1000)


def read(session: Session) -> Retention:
    setting = session.get(Setting, NAME)
    return Retention.model_validate(setting.value if setting else {})


def change(session: Session, body: Any) -> Retention:
    """Set the keys given; raises `WrongInput` that names every wrong one."""
    if not isinstance(body, dict):
        raise WrongInput("body: must be a JSON object", [{"field": "body", "message": "must be a JSON object"}])
    try:
        wanted = Retention.model_validate(read(session).model_dump() | body)
    except ValidationError as error:
        detail = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in detail), detail) from None
    session.merge(Setting(name=NAME, value=wanted.model_dump(), changed_at=utc_now()))
    return wanted


def apply(session: Session) -> int:
    """Retire what is too old or too much among the checkpoints of ended jobs; how many went.

    Never a best one, and never the newest of a job that failed or was stopped, which could go on from nothing else.
    """
    wanted = read(session)
    if wanted.max_age_days is None and wanted.max_bytes is None:
        return 0
    kept = _kept(session)
    needed = {one.id for one in [*_best_of_each_job(kept), *_resumed_from(session, kept)]}
    too_old = timedelta(days=wanted.max_age_days) if wanted.max_age_days is not None else timedelta.max
    total, count = sum(one.size for one in kept), 0
    for checkpoint in kept:
        too_much = wanted.max_bytes is not None and total > wanted.max_bytes
        if checkpoint.id in needed or not (too_much or utc_now() - checkpoint.created_at > too_old):
            continue
        checkpoint.retired = True
        session.add(checkpoint)
        total, count = total - checkpoint.size, count + 1
    return count


def _kept(session: Session) -> list[Checkpoint]:
    """Checkpoints of ended jobs that are on the disk, oldest first."""
    query = (
        select(Checkpoint)
        .where(Checkpoint.job_id == Job.id, col(Job.state).in_(ENDED), col(Checkpoint.trashed_at).is_(None))
        .where(col(Checkpoint.complete).is_(True), col(Checkpoint.retired).is_(False))
        .order_by(col(Checkpoint.created_at), col(Checkpoint.id))
    )
    return list(session.exec(query))


def _resumed_from(session: Session, kept: list[Checkpoint]) -> list[Checkpoint]:
    """The newest of each job that may be resumed."""
    of_job = {one.job_id: one for one in sorted(kept, key=lambda one: one.step) if not one.superseded}
    return [one for one in of_job.values() if session.get_one(Job, one.job_id).state != JobState.SUCCEEDED]


def _best_of_each_job(kept: list[Checkpoint]) -> list[Checkpoint]:
    scored = [one for one in kept if one.eval_loss is not None and not one.superseded]
    best: dict[int, Checkpoint] = {}
    for one in scored:
        known = best.get(one.job_id)
        if known is None or (one.eval_loss, one.step) < (known.eval_loss, known.step):
            best[one.job_id] = one
    return list(best.values())
