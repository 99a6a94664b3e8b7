"""The job directories of a worker: `jobs/JOB/attempt-N`, kept small."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.files import read_json, write_json
from worker.messages import Claim

# What takes space; the control center has it all once an attempt was ended or taken away.
HEAVY = ("checkpoints", "adapter", "resume", "commands", "outgoing")
CLAIM_NAME = "claim.json"
KEPT_ATTEMPTS = 50
FORGOTTEN_S = 7 * 24 * 3600.0


def make_job_dir(jobs_dir: Path, claim: Claim) -> Path:
    """The new directory of an attempt, with the claim that its spool can be sent under later."""
    job_dir = jobs_dir / str(claim.job_id) / f"attempt-{claim.attempt}"
    # A control center with new data counts from one again: what another job left under this number is not ours.
    shutil.rmtree(job_dir, ignore_errors=True)
    job_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(job_dir / CLAIM_NAME, {"attempt": claim.attempt, "claim_token": claim.claim_token})
    return job_dir


def open_spools(jobs_dir: Path, job_id: int, before: int) -> Iterator[tuple[int, str, Path]]:
    """Attempt, claim token and directory of earlier attempts of a job that were never ended from here."""
    for job_dir in sorted((jobs_dir / str(job_id)).glob("attempt-*"), key=attempt_of):
        claim = read_json(job_dir / CLAIM_NAME)
        if claim is not None and claim["attempt"] < before:
            yield claim["attempt"], claim["claim_token"], job_dir


def attempt_of(job_dir: Path) -> int:
    return int(job_dir.name.removeprefix("attempt-"))


def shed(job_dir: Path) -> None:
    """Drops what takes space; log, events and outcome stay."""
    for name in HEAVY:
        shutil.rmtree(job_dir / name, ignore_errors=True)


def close_job(jobs_dir: Path, job_id: int, attempt: int) -> None:
    """After an accepted end: this and earlier attempts of the job have nothing left to send."""
    for job_dir in (jobs_dir / str(job_id)).glob("attempt-*"):
        if attempt_of(job_dir) <= attempt:
            (job_dir / CLAIM_NAME).unlink(missing_ok=True)
            shed(job_dir)
    prune(jobs_dir)


def prune(jobs_dir: Path) -> None:
    """Keeps the newest ended attempts, and drops those that nobody came back to for a week.

    The lanes of a machine do so at the same time: what one of them drops is gone for the others.
    """
    found = sorted(jobs_dir.glob("*/attempt-*"), key=_changed_at, reverse=True)
    ended = [path for path in found if not (path / CLAIM_NAME).exists()]
    oldest = time.time() - FORGOTTEN_S
    forgotten = [path for path in found if _changed_at(path) < oldest and _quiet_since(path, oldest)]
    for path in {*ended[KEPT_ATTEMPTS:], *forgotten}:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.parent.rmdir()  # stays where it holds another


def _quiet_since(job_dir: Path, moment: float) -> bool:
    # A job of many days touches its event file, not its directory.
    with suppress(FileNotFoundError):
        return all(_changed_at(file) < moment for file in job_dir.iterdir())
    return False


def _changed_at(path: Path) -> float:
    """In seconds since 1970; now for what is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
