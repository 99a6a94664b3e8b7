"""What people ask of a job: cancel, pause, resume, retry, save, sample, another priority, a clone."""

from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.errors import Conflict
from app.models import HELD, PRIORITIES, Adapter, Checkpoint, History, Job, JobState
from app.schemas import read_config
from app.services import events, jobs, places, waiting
from app.services.needs import Needs
from app.services.new_job import Mixed, NewJob
from app.services.trashed import refuse_trashed

WORDS = {
    "queued": "queued",
    "claimed": "being prepared",
    "running": "running",
    "paused": "paused",
    "failed": "failed",
    "cancelled": "stopped",
    "succeeded": "finished",
}


def _refuse(job: Job, action: str, hint: str = "") -> Conflict:
    return Conflict(f"Job {job.id} is {WORDS[job.state]} and cannot {action}.{hint and ' ' + hint}")


def cancel(session: Session, job: Job, who: str, save: bool = True) -> None:
    """Stop the job: at once where no worker holds it, else when its row in flight is through (or at once, unsaved)."""
    if job.state in (JobState.QUEUED, JobState.PAUSED):
        jobs.note(session, job, who, "cancel")
        jobs.become(session, job, JobState.CANCELLED, "Stopped before it ran on")
    elif job.state in HELD:
        jobs.note(session, job, who, "cancel", {"save": save})
        job.asked, job.stop_now = "cancel", job.stop_now or not save
        events.record_state(session, job, "Stopping")
        jobs.announce_queue(session, job)
    else:
        raise _refuse(job, "be cancelled")


def pause(session: Session, job: Job, who: str) -> None:
    """Save a checkpoint and give the lane back; `resume` goes on from there."""
    if job.state not in HELD:
        hint = "Lower its priority to let others go first." if job.state == JobState.QUEUED else ""
        raise _refuse(job, "be paused", hint)
    if job.asked == "cancel":
        raise Conflict(f"Job {job.id} is stopping already.")
    jobs.note(session, job, who, "pause")
    job.asked = "pause"
    events.record_state(session, job, "Pausing")
    jobs.announce_queue(session, job)


def save(session: Session, job: Job, who: str) -> None:
    """Write a checkpoint after the step in flight."""
    if job.state not in HELD:
        raise _refuse(job, "save a checkpoint")
    jobs.note(session, job, who, "save")
    job.save_asked = True
    session.add(job)


def sample(session: Session, job: Job, who: str) -> None:
    """Let the model answer its sample prompts after the row in flight."""
    if job.state != JobState.RUNNING:
        raise _refuse(job, "be asked for samples", "Its model answers while it is running.")
    if job.config["sample_prompts"] == 0:
        raise Conflict(f"Job {job.id} was made with sample_prompts 0, so it has no prompts to answer.")
    jobs.note(session, job, who, "sample")
    job.sample_asked = True
    session.add(job)


def errands(session: Session, job: Job, heard: int) -> tuple[list[str], int]:
    """What the trainer shall do beside its steps, and the mark by which the worker says that it heard so.

    Asked for until it was heard, so that an answer that gets lost loses no request.
    """
    if not (job.save_asked or job.sample_asked):
        return [], heard
    session.flush()
    newest = select(History.action, func.max(History.id)).where(History.job_id == job.id)
    found = session.exec(newest.where(col(History.action).in_(("save", "sample"))).group_by(History.action))
    marks = {action: mark or 0 for action, mark in found}
    job.save_asked = job.save_asked and marks.get("save", 0) > heard
    job.sample_asked = job.sample_asked and marks.get("sample", 0) > heard
    asked = {"save": job.save_asked, "sample": job.sample_asked}
    return [name for name, wanted in asked.items() if wanted], max([heard, *marks.values()])


def newest_checkpoint(session: Session, job: Job) -> Checkpoint | None:
    """The newest checkpoint whose files are all here with good hashes."""
    query = (
        select(Checkpoint)
        .where(
            Checkpoint.job_id == job.id,
            col(Checkpoint.complete).is_(True),
            col(Checkpoint.superseded).is_(False),
            col(Checkpoint.retired).is_(False),
            col(Checkpoint.trashed_at).is_(None),
        )
        .order_by(col(Checkpoint.step).desc(), col(Checkpoint.attempt).desc())
    )
    return session.exec(query).first()


def resume(session: Session, job: Job, who: str) -> None:
    """Queue the job again, to go on from its newest checkpoint."""
    if job.state not in (JobState.PAUSED, JobState.FAILED, JobState.CANCELLED):
        raise _refuse(job, "be resumed")
    checkpoint = newest_checkpoint(session, job)
    if checkpoint is None and job.state != JobState.PAUSED:
        hint = "use retry" if job.state == JobState.FAILED else "retry is for failed jobs, so clone it"
        raise Conflict(f"Job {job.id} has no checkpoint to go on from: {hint} to start anew.")
    jobs.note(session, job, who, "resume", {"step": checkpoint.step if checkpoint else 0, "from": job.state})
    job.fresh_start = False
    _queue_again(session, job, f"Queued again, from step {checkpoint.step if checkpoint else 0}")


def retry(session: Session, job: Job, who: str) -> None:
    """Queue the job again, from step 0 with the same configuration."""
    if job.state != JobState.FAILED:
        hint = "Use resume or clone." if job.state in (JobState.CANCELLED, JobState.PAUSED) else ""
        raise _refuse(job, "be tried again", hint)
    jobs.note(session, job, who, "retry", {"from": job.state})
    job.fresh_start = True
    _queue_again(session, job, "Queued again, from the start")


def _queue_again(session: Session, job: Job, message: str) -> None:
    refuse_trashed(job)
    for dataset_id in waiting.dataset_ids(job):
        jobs.usable_dataset(session, dataset_id)
    if job.from_adapter_id is not None:
        parent = session.get(Adapter, job.from_adapter_id)
        if parent is None:
            raise Conflict(f"Adapter {job.from_adapter_id}, which job {job.id} goes on from, was deleted for good.")
        refuse_trashed(parent)
    job.error, job.last_fault, job.faults = None, None, 0
    job.place = places.next_place(session)
    jobs.become(session, job, JobState.QUEUED, message)


def set_priority(session: Session, job: Job, priority: str, who: str) -> None:
    if job.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
        raise _refuse(job, "change its priority")
    jobs.note(session, job, who, "priority", {"priority": priority})
    job.priority = PRIORITIES[priority]
    session.add(job)
    session.flush()
    jobs.announce_queue(session, job)


def clone(session: Session, job: Job, changes: dict[str, Any], who: str, others: dict[str, Any] | None = None) -> Job:
    """A new job like this one, with the configuration keys in `changes` and the fields in `others` as given there."""
    config = read_config(job.config | changes)
    later = job.start_after if job.start_after is not None and job.start_after > utc_now() else None
    like = NewJob(
        dataset_id=job.dataset_id,
        datasets=[Mixed(**one) for one in job.datasets] if job.datasets else None,
        model=job.model,
        name=job.name,
        priority=jobs.PRIORITY_NAMES[job.priority],
        retries=job.retries,
        from_adapter=job.from_adapter_id,
        needs=Needs(**job.needs) if job.needs else None,
        depends_on=[one for one in job.depends_on if session.get(Job, one) is not None],
        start_after=later,
        max_duration_s=job.max_duration_s,
        config=config.model_dump(),
    )
    return jobs.create(session, like.model_copy(update=others or {}), config, who)
