"""A control center and two workers at addresses of their own, each over a link that can be cut.

Loopback addresses with a relay work on every machine, and a relay that holds everything back is what a cut cable is.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from app.broker import server_command
from tests.conftest import REPOSITORY, Server, free_port
from tests.factories import rows
from tests.relay import Relay

# Some seconds on an idle machine; a busy one may take its time.
pytestmark = pytest.mark.timeout(400)

LEASE_S = 3.0
CONFIG = {"gradient_accumulation": 2, "sample_prompts": 0, "lora_r": 4, "validation_share": 0, "save_steps": 10}


@dataclass
class Machine:
    """A worker's launcher behind its links to the pages and to the broker."""

    name: str
    links: list[Relay]
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


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a broker that several machines reach."""
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    command = [*server_command(folder), "--port", str(port), "--bind", "127.0.0.1", "--logfile", ""]
    with running(command, folder / "log"), redis.Redis(port=port) as client:
        until(lambda: _answers(client), "the broker answers")
        yield port


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory, broker: int) -> Iterator[Server]:
    """The pages and the API alone: every lane is another machine's."""
    data_dir, port = tmp_path_factory.mktemp("center") / "data", free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "web", "--data-dir", str(data_dir), "--port", str(port)]
    settings = {"TRAINCTL_LEASE_S": str(LEASE_S), "TRAINCTL_ALLOWED_HOSTS": "127.0.0.2,127.0.0.3,127.0.0.4"}
    with running(command, data_dir.parent / "log", REDIS_URL=f"redis://127.0.0.1:{broker}/0", **settings) as process:

        def healthy() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz", trust_env=False).is_success
            return False

        until(healthy, "the control center answers")
        yield Server(url, (data_dir / "token").read_text().strip(), data_dir, process)


@pytest.fixture(scope="module")
def client(center: Server) -> Iterator[httpx.Client]:
    with center.client() as client:
        yield client


@contextlib.contextmanager
def machine(center: Server, folder: Path, number: int, broker: int | None) -> Iterator[Machine]:
    """A worker at 127.0.0.NUMBER; without a broker its lane looks for work by its own clock."""
    name, host = f"machine-{number}", f"127.0.0.{number}"
    folder.mkdir(parents=True)
    pages = Relay(host, ("127.0.0.1", int(center.url.rsplit(":", 1)[1])))
    links, environment = [pages], {"TRAINCTL_DATA_DIR": str(folder / "data")}
    if broker is not None:
        links.append(Relay(host, ("127.0.0.1", broker)))
        environment["REDIS_URL"] = f"redis://{host}:{links[1].port}/0"
    command = [sys.executable, "-m", "app.cli", "worker", "--server", f"http://{host}:{pages.port}", "--lanes", "cpu"]
    command += ["--token-file", str(center.data_dir / "worker-token"), "--node-name", name, "--label", name]
    command += ["--work-dir", str(folder / "work")]
    with running(command, folder / "log", **environment) as process:
        yield Machine(name, links, process, folder / "log")
    for link in links:
        link.close()


@pytest.fixture
def pair(center: Server, client: httpx.Client, broker: int, tmp_path: Path) -> Iterator[list[Machine]]:
    with machine(center, tmp_path / "2", 2, broker) as first, machine(center, tmp_path / "3", 3, broker) as second:
        until(lambda: {first.name, second.name} <= nodes(client, "online"), "both nodes are online")
        yield [first, second]
        first.heal()
        second.heal()


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


def test_a_job_of_a_node_that_is_lost_goes_on_on_the_other(client: httpx.Client, pair: list[Machine]) -> None:
    job_id = make_job(client, "lost", max_steps=120)
    job_at(client, job_id, "running", step=12)
    until(lambda: checkpoints(client, job_id), "a checkpoint reached the control center")
    holder = client.get(f"/api/jobs/{job_id}").json()["lane"].split("/")[0]
    lost, other = sorted(pair, key=lambda one: one.name != holder)
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
    assert len(client.get("/api/adapters").json()["items"]) == 1


@pytest.mark.slow
def test_a_link_that_is_cut_for_less_than_the_lease_costs_nothing(client: httpx.Client, pair: list[Machine]) -> None:
    job_id = make_job(client, "short", max_steps=150)
    job_at(client, job_id, "running", step=10)
    for _ in range(3):
        for one in pair:
            one.cut()
        time.sleep(LEASE_S / 2)
        for one in pair:
            one.heal()
        time.sleep(1)
    assert job_at(client, job_id, "succeeded")["attempt"] == 1
    steps = client.get(f"/api/jobs/{job_id}/metrics", params={"max_points": 10**6}).json()["step"]
    assert steps == list(range(1, 151))


@pytest.mark.slow
def test_a_node_without_a_broker_still_gets_work(client: httpx.Client, center: Server, tmp_path: Path) -> None:
    with machine(center, tmp_path / "4", 4, broker=None) as alone:
        until(lambda: alone.name in nodes(client, "online"), "the node is online")
        # Its first look for work, right after its start, has found nothing.
        time.sleep(2)
        job_id = make_job(client, "alone", max_steps=3)
        job_at(client, job_id, "succeeded")
        # Written once the answer to its last word has come.
        until(lambda: f"job {job_id}, attempt 1 ended" in alone.log.read_text(), "the node tells of the end in its log")
        assert "REDIS_URL is not set" in alone.log.read_text()


@pytest.mark.slow
def test_a_node_that_is_stopped_puts_its_job_back_and_leaves(client: httpx.Client, pair: list[Machine]) -> None:
    job_id = make_job(client, "leave", max_steps=100_000)
    holder = job_at(client, job_id, "running", step=12)["lane"].split("/")[0]
    stopped = next(one for one in pair if one.name == holder)
    stopped.process.terminate()
    assert stopped.process.wait(40) == 0
    assert holder in nodes(client, "left")
    again = job_at(client, job_id, "running", step=13)
    assert (again["attempt"], again["lane"].split("/")[0] != holder) == (2, True)
    assert client.post(f"/api/jobs/{job_id}/cancel", json={"save": False}).is_success
    job_at(client, job_id, "cancelled")
