"""The live view under load: metrics in, charts out, streams, and what the control center costs at rest.

    python benchmarks/live.py [--json FILE] [--shrink]

Peers where they are installed: MLflow (metrics in, its SQLite store in this process, so without HTTP) and TensorBoard
(reading a chart of as many steps). Each part starts a control center of its own. Figures of time are wall-clock, so
other work on the machine shows in them; `of a core` and `a CPU second` are the web process's own.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import insert

from app.config import Settings
from app.main import create_app
from app.models import Dataset, Job, Metric
from app.services import rollups
from benchmarks import peers
from benchmarks.center import (
    ROOT,
    Center,
    Lane,
    allow_many_files,
    cpu_s,
    end_with_streams,
    load,
    percentile,
    started,
    timed_ms,
    until,
)
from benchmarks.table import Row, arguments, machine, report, row

BATCH = 1000
VALUES = 8  # numbers in a row of metrics


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rows: int = 100_000
    chart: int = 1_000_000
    requests: int = 40
    listeners: int = 1000
    listen_s: int = 20
    crowd: int = 5000
    crowd_s: int = 60
    rest_s: int = 60
    starts: int = 3


SMALL = Size(rows=2000, chart=6000, requests=3, listeners=20, listen_s=3, crowd=30, crowd_s=3, rest_s=3, starts=1)


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        report(measure(Path(folder), SMALL if given.shrink else Size()), given.json)


def measure(folder: Path, size: Size) -> list[Row]:
    rows = [machine(), load(), *metrics_in(folder / "in", size), *chart(folder / "chart", size)]
    rows += streams(folder / "streams", size)
    return [*rows, *whole_system(folder / "up", size)]


def metrics_in(folder: Path, size: Size) -> list[Row]:
    """Rows of metrics through the execution API; the peer takes the same numbers in the largest batches it allows."""
    with started("web", folder / "data") as center:
        lane = lane_with_a_job(center)
        batches = [lane.steps(BATCH) for _ in range(max(1, size.rows // BATCH))]
        used, began = cpu_s(center.web), time.perf_counter()
        for batch in batches:
            lane.beat(batch)
        seconds, used = time.perf_counter() - began, cpu_s(center.web) - used
    count = BATCH * len(batches)
    peer = peers.mlflow_rows_per_s(folder, max(BATCH, count // 20), VALUES)
    named = f"metrics in, rows of {VALUES} numbers"
    return [
        row(named, count / seconds, "rows/s", mark=1e4),
        row(f"{named}: rows a CPU second of the web process", count / used, "rows/s"),
        row(f"{named}; peer: MLflow's store{missing(peer)}", count / seconds, "rows/s", peer=peer),
    ]


def missing(peer: object) -> str:
    return "" if peer is not None else " (peer skipped: not installed)"


def lane_with_a_job(center: Center) -> Lane:
    center.job(center.dataset())
    return Lane(center)


def chart(folder: Path, size: Size) -> list[Row]:
    """2,000 points of a long job; once everything is loaded, as the second look at a page is."""
    write_long_job(folder / "data", size.chart)
    with started("web", folder / "data") as center:
        place, began = "/api/jobs/1/metrics?max_points=2000", time.monotonic()
        center.api.get(place).raise_for_status()
        first_s = center.ready_s + time.monotonic() - began
        took = timed_ms(lambda: center.api.get(place).raise_for_status(), size.requests)
        part = f"{place}&from_step={size.chart // 3}&to_step={size.chart // 2}"
        took_part = timed_ms(lambda: center.api.get(part).raise_for_status(), size.requests)
    peer = peers.tensorboard_chart(folder, size.chart, size.requests)
    named, note = f"a chart of {size.chart:,} steps", missing(peer)
    once_loaded, loaded_s = peer or (None, None)
    return [
        row(f"{named}, median", median(took), "ms", "lower", mark=150),
        row(f"{named}, p99", percentile(took, 0.99), "ms", "lower"),
        row(f"{named}, a sixth of it, median", median(took_part), "ms", "lower"),
        row(f"{named}; peer: TensorBoard once loaded{note}", median(took), "ms", "lower", peer=once_loaded),
        row(f"{named}; peer: TensorBoard, start to loaded{note}", first_s, "s", "lower", peer=loaded_s),
    ]


def write_long_job(data_dir: Path, steps: int) -> None:
    """A finished job with so many steps, put into the tables as beats would put them."""
    database = create_app(Settings(data_dir=data_dir)).state.database
    with database.write() as session:
        session.add(Dataset(name="rows", sha256="0", size=1))
        session.flush()
        session.add(Job(name="long", model="m", dataset_id=1, state="succeeded", attempt=1, step=steps))
        session.flush()
        for first in range(1, steps + 1, 10_000):
            last = min(steps, first + 9999)
            session.connection().execute(insert(Metric), [metric(step) for step in range(first, last + 1)])
            rollups.build(session, 1, first, last)
    database.close()


def metric(step: int) -> dict[str, Any]:
    loss = 3 / (1 + step / 1e5) + (step * 7919 % 1000) / 1000
    values = {"loss": loss, "grad_norm": loss / 3, "learning_rate": 2e-4, "num_tokens": 2048, "num_targets": 311}
    place = {"job_id": 1, "step": step, "attempt": 1, "event_id": step, "at": 1.7e9 + step}
    return place | values | {"tokens_per_s": 4321.5, "step_s": 0.474, "epoch": step / 1e5}


def streams(folder: Path, size: Size) -> list[Row]:
    most = allow_many_files()
    crowd = min(size.crowd, most - 200)
    with started("web", folder / "data") as center:
        lane = lane_with_a_job(center)
        few = listen(center, lane, size.listeners, size.listen_s)
        many = listen(center, lane, crowd, size.crowd_s)
        with listening(center, lane, 100):
            ended = end_with_streams(center)
    return [
        row(f"{size.listeners:,} streams, an event a second, p50", percentile(few["late_ms"], 0.5), "ms", "lower"),
        row(
            f"{size.listeners:,} streams, an event a second, p99", percentile(few["late_ms"], 0.99), "ms", "lower", 300
        ),
        row(f"{crowd:,} streams for {size.crowd_s} s: events lost", many["lost"], "events", "lower", mark=0),
        row(f"{crowd:,} streams for {size.crowd_s} s: p99", percentile(many["late_ms"], 0.99), "ms", "lower"),
        row("SIGTERM with 100 open streams until the end", ended, "s", "lower", mark=1),
    ]


class listening:  # noqa: N801  used as a block
    """Listeners in a process of their own, from the newest event on."""

    def __init__(self, center: Center, lane: Lane, count: int) -> None:
        newest = center.api.get(f"/api/jobs/{lane.job_id}").json()["last_event_id"]
        host, port = center.url.removeprefix("http://").split(":")
        path = f"/api/jobs/{lane.job_id}/events?after={newest}"
        program = [sys.executable, str(ROOT / "benchmarks" / "listeners.py"), host, port, path]
        line = [*program, str(center.data_dir / "token"), str(count)]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "listening":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def heard(self) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"stop\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def __exit__(self, *raised: object) -> None:
        self.process.terminate()
        self.process.communicate()


def listen(center: Center, lane: Lane, count: int, seconds: int) -> dict[str, Any]:
    """An event a second to so many listeners; what was lost is counted over all of them."""
    with listening(center, lane, count) as crowd:
        for _ in range(seconds):
            due = time.monotonic() + 1
            lane.beat(lane.steps(1, sent=time.monotonic()))
            time.sleep(max(0.0, due - time.monotonic()))
        time.sleep(3)
        heard = crowd.heard()
    assert heard["most"] <= seconds, "an event was delivered twice"
    return heard | {"lost": seconds * count - len(heard["late_ms"])}


def whole_system(folder: Path, size: Size) -> list[Row]:
    """`trainctl up` on a folder of its own: the first start, later ones, the first step of a job, and at rest."""
    with started("up", folder / "data") as center:
        first_start = center.ready_s
    starts = []
    for _ in range(size.starts):
        with started("up", folder / "data") as center:
            starts.append(center.ready_s)
    with started("up", folder / "data") as center:
        until(lambda: center.api.get("/api/nodes").json()["items"], 60)
        first_step = first_step_s(center)
        used, began = cpu_s(center.web), time.monotonic()
        time.sleep(size.rest_s)
        share = 100 * (cpu_s(center.web) - used) / (time.monotonic() - began)
        memory = center.web.memory_info().rss / 1e6
    return [
        row("`trainctl up` until it answers, median", median(starts), "s", "lower", mark=4),
        row("`trainctl up` until it answers, in a new folder", first_start, "s", "lower", mark=4),
        row("POST of a job to its first step, cold", first_step, "s", "lower", mark=8),
        row("web process at rest, with one lane's telemetry: memory", memory, "MB", "lower", mark=150),
        row("web process at rest, with one lane's telemetry: of a core", share, "%", "lower", mark=1),
    ]


def first_step_s(center: Center) -> float:
    """The job ends before this returns."""
    dataset_id, began = center.dataset(), time.monotonic()
    place = f"/api/jobs/{center.job(dataset_id, config={'max_steps': 1, 'sample_prompts': 0})}"
    until(lambda: center.api.get(place).json()["step"] >= 1, 120)
    took = time.monotonic() - began
    until(lambda: center.api.get(place).json()["state"] == "succeeded", 120, pause_s=0.5)
    return took


if __name__ == "__main__":
    main()
