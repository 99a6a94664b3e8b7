"""What benchmarks/queue.py measures: from a wake-up to the claim, and the list of 10,000 jobs.

The peer where it is installed is Flower, with as many tasks in its memory. Figures of time are wall-clock.
"""

import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from app.config import Settings
from app.main import create_app
from app.models import Dataset, Job, Metric
from app.schemas import TrainingConfig
from app.services import rollups
from benchmarks import peers
from benchmarks.center import Center, load, percentile, started, timed_ms, until
from benchmarks.table import Row, arguments, machine, report, row

STATES = ("succeeded", "queued", "failed", "succeeded", "cancelled")
STEPS = 200  # of each of the newest jobs


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    claims: int = 30
    jobs: int = 10_000
    requests: int = 200


SMALL = Size(claims=1, jobs=60, requests=3)


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        report(measure(Path(folder), SMALL if given.shrink else Size()), given.json)


def measure(folder: Path, size: Size) -> list[Row]:
    return [machine(), load(), *claims(folder / "claims", size), *lists(folder / "lists", size)]


def claims(folder: Path, size: Size) -> list[Row]:
    """One job after the other on an idle lane, each stopped as soon as it is claimed."""
    with started("up", folder / "data") as center:
        until(lambda: center.api.get("/api/nodes").json()["items"], 60)
        dataset_id, took = center.dataset(), []
        for _ in range(size.claims + 1):
            took.append(claim_ms(center, center.job(dataset_id)))
    # The first one waits until Celery is up in the worker, which is no wake-up.
    took = took[1:]
    return [
        row("wake-up to claim, p50", percentile(took, 0.5), "ms", "lower"),
        row("wake-up to claim, p99", percentile(took, 0.99), "ms", "lower"),
    ]


def claim_ms(center: Center, job_id: int) -> float:
    """Milliseconds from the commit of a job, which wakes the lane, to its claim, by the server's own clock."""
    place = f"/api/jobs/{job_id}"
    until(lambda: center.api.get(place).json()["started_at"], 60)
    job = center.api.get(place).json()
    center.api.post(f"{place}/cancel", json={"save": False})
    until(lambda: center.api.get(place).json()["state"] in ("cancelled", "succeeded"), 60, pause_s=0.1)
    # The lane asks once more before it is idle again.
    time.sleep(0.5)
    moments = [datetime.fromisoformat(job[name]) for name in ("created_at", "started_at")]
    return 1000 * (moments[1] - moments[0]).total_seconds()


def lists(folder: Path, size: Size) -> list[Row]:
    """Fifty lines of a long list: the newest, and some from its middle, in turn."""
    write_jobs(folder / "data", size.jobs)
    with started("web", folder / "data") as center:
        page = timed_ms(turns(center.api, "/jobs", f"/jobs?after={size.jobs // 2}"), size.requests)
        by_rest = timed_ms(turns(center.api, "/api/jobs", f"/api/jobs?after={size.jobs // 2}"), size.requests)
        waiting = timed_ms(turns(center.api, "/api/jobs?state=queued"), size.requests)
    peer = peers.flower_list(folder, size.jobs, size.requests)
    named, note = f"list of {size.jobs:,} jobs", "" if peer else " (peer skipped: not installed)"
    peer = peer or [0.0]
    return [
        row(f"{named}: page, p50", median(page), "ms", "lower"),
        row(f"{named}: page, p99", percentile(page, 0.99), "ms", "lower", mark=100),
        row(f"{named}: GET /api/jobs, p50", median(by_rest), "ms", "lower"),
        row(f"{named}: GET /api/jobs, p99", percentile(by_rest, 0.99), "ms", "lower", mark=100),
        row(f"{named}: those that wait, with their places, p99", percentile(waiting, 0.99), "ms", "lower"),
        row(f"{named}: p50; peer: Flower's{note}", median(by_rest), "ms", "lower", peer=median(peer)),
        row(
            f"{named}: p99; peer: Flower's{note}", percentile(by_rest, 0.99), "ms", "lower", peer=percentile(peer, 0.99)
        ),
    ]


def turns(api: httpx.Client, *places: str) -> Any:
    """A request that takes the places in turn."""
    asked = iter(places * 10_000)
    return lambda: api.get(next(asked)).raise_for_status()


def write_jobs(data_dir: Path, count: int) -> None:
    """Jobs of all kinds of ends, every other one with a curve among the newest."""
    database = create_app(Settings(data_dir=data_dir)).state.database
    with database.write() as session:
        session.add(Dataset(name="rows", sha256="0", size=1, state="ready"))
        session.flush()
        config = TrainingConfig().model_dump()
        for number in range(1, count + 1):
            state = STATES[number % len(STATES)]
            step = 0 if state == "queued" else STEPS
            own: dict[str, Any] = {
                "name": f"job {number}",
                "state": state,
                "place": number,
                "step": step,
                "num_steps": STEPS,
            }
            session.add(Job(model="m", dataset_id=1, config=config, **own))
        session.flush()
        for number in range(max(1, count - 100), count + 1, 2):
            rows = [Metric(job_id=number, step=n, attempt=1, event_id=n, at=0, loss=1 / n) for n in range(1, STEPS + 1)]
            session.add_all(rows)
            session.flush()
            rollups.build(session, number, 1, STEPS)
    database.close()
