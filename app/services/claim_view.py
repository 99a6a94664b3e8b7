"""What a worker is told of the job it claimed."""

from typing import Any

from sqlmodel import Session

from app.models import Checkpoint, Dataset, Job
from app.services import parents


def of(session: Session, job: Job, resume: Checkpoint | None, lease_s: float) -> dict[str, Any]:
    """All that a worker needs to begin."""
    return {
        "job_id": job.id,
        "attempt": job.attempt,
        "claim_token": job.claim_token,
        "name": job.name,
        "kind": job.kind,
        "model": job.model,
        "config": job.config,
        "dataset": _dataset(session, job.dataset_id),
        "mixture": [{**(_dataset(session, one["id"]) or {}), "weight": one["weight"]} for one in job.datasets or ()],
        "validation_dataset": _dataset(session, job.config.get("validation_dataset_id")),
        "from_adapter": parents.claimed(session, job.from_adapter_id),
        "resume": resume
        and {"attempt": resume.attempt, "step": resume.step, "path": resume.path, "files": resume.files},
        "lease_s": lease_s,
    }


def _dataset(session: Session, dataset_id: int | None) -> dict[str, Any] | None:
    dataset = session.get(Dataset, dataset_id) if dataset_id is not None else None
    if dataset is None:
        return None
    lines = dataset.unpacked or {"sha256": dataset.sha256, "size": dataset.size}
    return {"id": dataset.id, "name": dataset.name, "sha256": lines["sha256"], "size": lines["size"]}
