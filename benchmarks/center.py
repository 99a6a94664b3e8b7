"""A control center in processes of its own, as the benchmarks of the queue and of the live view use it."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.table import Row, row

ROOT = Path(__file__).resolve().parents[1]
TINY = "tiny-qwen3-vl"
# While thousands of streams are opened the lane by hand says nothing: its job must not be taken from it.
# The control center may have another interpreter than this script, which needs one that has the peers.
PYTHON = os.environ.get("CENTER_PYTHON", sys.executable)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TRAINCTL_LEASE_S": "3600"}


@dataclass
class Center:
    """What was started, and clients that hold the operator's and the worker's token."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    ready_s: float
    api: httpx.Client = field(init=False)
    worker: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = self._client("token")
        self.worker = self._client("worker-token")

    def _client(self, name: str) -> httpx.Client:
        token = (self.data_dir / name).read_text("utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    @property
    def web(self) -> psutil.Process:
        """The web process, alone or under the launcher."""
        first = psutil.Process(self.process.pid)
        return next(one for one in [first, *first.children(recursive=True)] if "web" in one.cmdline())

    def dataset(self, rows: int = 40) -> int:
        lines = (f'{{"messages": [{_turn("user", i)}, {_turn("assistant", i)}]}}\n' for i in range(rows))
        answer = self.api.put("/api/datasets/rows.jsonl", content="".join(lines)).raise_for_status()
        return int(answer.json()["id"])

    def job(self, dataset_id: int, **more: Any) -> int:
        body = {"dataset_id": dataset_id, "model": TINY, **more}
        return int(self.api.post("/api/jobs", json=body).raise_for_status().json()["id"])


def _turn(role: str, number: int) -> str:
    return f'{{"role": "{role}", "content": "number {number}"}}'


@contextmanager
def started(command: str, data_dir: Path) -> Iterator[Center]:
    """`trainctl up` or `trainctl web` on a free port, ended when the block ends."""
    port = free_port()
    began = time.monotonic()
    hub = ["--no-hub"] if command == "up" else []
    line = [PYTHON, "-m", "app.cli", command, "--data-dir", str(data_dir), "--port", str(port), *hub]
    process = subprocess.Popen(line, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port) or process.poll() is not None, 120)
        yield Center(f"http://127.0.0.1:{port}", data_dir, process, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, path: str = "/healthz") -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False).is_success
    return False


def until(true: Callable[[], object], seconds: float, pause_s: float = 0.02) -> None:
    """Wait; raises TimeoutError after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds} s")
        time.sleep(pause_s)


class Lane:
    """A lane by hand: it claims a job and tells of as many steps as it is asked to."""

    def __init__(self, center: Center) -> None:
        self.http = center.worker
        body = {"name": "bench", "lanes": [{"name": "cpu", "kind": "cpu", "gpus": []}]}
        node = self.http.post("/api/worker/nodes", json=body).raise_for_status().json()["id"]
        claim = self.http.post("/api/worker/claim", json={"node_id": node, "lane": "cpu"}).raise_for_status().json()
        self.job_id, self.seq, self.step = claim["job_id"], 0, 0
        self.headers = {"X-Attempt": str(claim["attempt"]), "X-Claim-Token": claim["claim_token"]}
        self.beat([self.event("state", state="claimed", phase="loading", resume_step=0)])
        self.beat([self.event("state", state="running", phase="training")])

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"seq": self.seq, "at": at, "kind": kind, **fields}

    def steps(self, count: int, **more: Any) -> list[dict[str, Any]]:
        return [self._step(**more) for _ in range(count)]

    def _step(self, **more: Any) -> dict[str, Any]:
        self.step += 1
        loss = 1 + (self.step * 7919 % 1000) / 1000
        values = {"loss": loss, "learning_rate": 2e-4, "grad_norm": loss / 3, "num_tokens": 2048, "num_targets": 311}
        speed = {"tokens_per_s": 4321.5, "step_s": 0.474, "eta_s": 99.5, "epoch": 0.5, "num_steps": 10**6}
        return self.event("step", step=self.step, **values, **speed, **more)

    def beat(self, events: list[dict[str, Any]]) -> None:
        place = f"/api/worker/jobs/{self.job_id}/beat"
        self.http.post(place, headers=self.headers, json={"events": events}).raise_for_status()


def load() -> Row:
    """What else the machine was doing: figures of time mean little where this is more than its cores."""
    return row("load of the machine before the start, one minute", os.getloadavg()[0], "processes", "lower")


def cpu_s(process: psutil.Process) -> float:
    """Seconds of a core the process has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def timed_ms(work: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of each round, after one that does not count."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return found


def allow_many_files() -> int:
    """Raise the limit of open files as far as it goes, for this process and its children; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def end_with_streams(center: Center) -> float:
    """Seconds from SIGTERM to the end of the web process."""
    began = time.monotonic()
    web = center.web
    web.send_signal(signal.SIGTERM)
    web.wait(60)
    return time.monotonic() - began
