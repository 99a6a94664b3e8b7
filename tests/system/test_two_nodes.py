"""A control center and two workers at addresses of their own, each over a link that can be cut.

Loopback addresses with a relay work on every machine, and a relay that holds everything back is what a cut cable is.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server
from tests.machines import (
    LEASE_S,
    Machine,
    broker_at,
    center_at,
    job_at,
    make_job,
    moves_to_another_node,
    nodes,
    running,
    until,
    worker_command,
)
from tests.relay import Relay

# Some seconds on an idle machine; a busy one may take its time.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with broker_at(tmp_path_factory.mktemp("broker"), "127.0.0.1") as port:
        yield port


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory, broker: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("center")
    with center_at(folder, "127.0.0.1", broker, "127.0.0.2,127.0.0.3,127.0.0.4") as server:
        yield server


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
    command = worker_command(f"http://{host}:{pages.port}", center.data_dir / "worker-token", name, folder / "work")
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


def test_a_job_of_a_node_that_is_lost_goes_on_on_the_other(client: httpx.Client, pair: list[Machine]) -> None:
    moves_to_another_node(client, pair, "lost")


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
