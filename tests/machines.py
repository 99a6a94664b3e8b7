"""Several machines on one: a control center without lanes, a broker, and workers behind links that can be cut."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import redis

from app.broker import server_command
from tests.conftest import REPOSITORY, Server, free_port
from tests.factories import rows

LEASE_S = 3.0
CONFIG = {"gradient_accumulation": 2, "sample_prompts": 0, "lora_r": 4, "validation_share": 0, "save_steps": 10}


class Link(Protocol):
    """What lies between two machines."""

    def cut(self) -> None: ...

    def heal(self) -> None: ...


@dataclass
class Machine:
    """A worker's launcher behind its links to the pages and to the broker."""

    name: str
    links: Sequence[Link]
    process: "subprocess.Popen[bytes]"
    log: Path

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def heal(self) -> None:
        for link in self.links:
            link.heal()

    def trainers(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in found if "worker.trainer" in " ".join(command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def until(condition: Callable[[], Any], what: str, seconds: float = 240.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not happen in time: {what}"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of ours for as long as the block lasts."""
    inherited = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    settings = {"OMP_NUM_THREADS": "1", "TRAINCTL_HUB": "false", **environment}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=inherited | settings, cwd=REPOSITORY, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def broker_at(folder: Path, host: str, *more: str) -> Iterator[int]:
    """A broker that several machines reach; the block is given its port."""
    port = free_port()
    command = [*server_command(folder), "--port", str(port), "--bind", host, "--logfile", "", *more]
    with running(command, folder / "log"), redis.Redis(host=host, port=port) as client:
        until(lambda: _answers(client), "the broker answers")
        yield port


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


@contextlib.contextmanager
def center_at(folder: Path, host: str, broker: int, allowed_hosts: str = "") -> Iterator[Server]:
    """The pages and the API alone: every lane is another machine's."""
    data_dir, port = folder / "data", free_port()
    url = f"http://{host}:{port}"
    command = [sys.executable, "-m", "app.cli", "web", "--data-dir", str(data_dir), "--port", str(port)]
    settings = {"TRAINCTL_LEASE_S": str(LEASE_S), "TRAINCTL_ALLOWED_HOSTS": allowed_hosts, "TRAINCTL_HOST": host}
    with running(command, folder / "log", REDIS_URL=f"redis://{host}:{broker}/0", **settings) as process:

        def healthy() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz", trust_env=False).is_success
            return False

        until(healthy, "the control center answers")
        yield Server(url, (data_dir / "token").read_text().strip(), data_dir, process)


def worker_command(server: str, token_file: Path, name: str, work_dir: Path) -> list[str]:
    """A worker with one lane without a GPU, labelled by its name."""
    command = [sys.executable, "-m", "app.cli", "worker", "--server", server, "--token-file", str(token_file)]
    return [*command, "--lanes", "cpu", "--node-name", name, "--label", name, "--work-dir", str(work_dir)]


def nodes(client: httpx.Client, state: str) -> set[str]:
    return {one["name"] for one in client.get("/api/nodes").json()["items"] if one["state"] == state}


def make_job(client: httpx.Client, seed: str, **config: Any) -> int:
    dataset = client.put(f"/api/datasets/{seed}.jsonl", content=rows(40, seed)).json()
    body = {"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "config": CONFIG | config}
    answer = client.post("/api/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def job_at(client: httpx.Client, job_id: int, state: str, step: int = 0) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
        return job if job["state"] == state and job["step"] >= step else None

    found: dict[str, Any] = until(reached, f"job {job_id} is {state} at step {step}")
    return found


def checkpoints(client: httpx.Client, job_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/jobs/{job_id}/checkpoints").json()["items"]
    return found


def moves_to_another_node(client: httpx.Client, machines: Sequence[Machine], seed: str) -> None:
    """A job whose node is cut off goes on on the other one, each step once; the lost node ends its trainer later."""
    job_id = make_job(client, seed, max_steps=120)
    job_at(client, job_id, "running", step=12)
    until(lambda: checkpoints(client, job_id), "a checkpoint reached the control center")
    holder = client.get(f"/api/jobs/{job_id}").json()["lane"].split("/")[0]
    lost, other = sorted(machines, key=lambda one: one.name != holder)
    lost.cut()
    until(lambda: f"job {job_id}, attempt 2 starts" in other.log.read_text(), "the other node has the job")
    ended = job_at(client, job_id, "succeeded", step=120)
    assert ended["attempt"] == 2
    events = client.get(f"/api/jobs/{job_id}/metrics", params={"max_points": 10**6}).json()
    assert events["step"] == list(range(1, 121))
    resumed = events["attempt"].index(2) + 1
    assert events["attempt"] == [1] * (resumed - 1) + [2] * (121 - resumed) and resumed > 10
    lost.heal()
    until(lambda: "does not hold the job any more" in lost.log.read_text(), "the lost node hears that it was fenced")
    until(lambda: not lost.trainers(), "its trainer has ended")
    assert client.get(f"/api/jobs/{job_id}").json() | {"last_event_id": 0} == ended | {"last_event_id": 0}
    adapters = client.get("/api/adapters").json()["items"]
    assert [one["job_id"] for one in adapters].count(job_id) == 1
