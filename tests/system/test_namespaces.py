"""Two workers in network namespaces of their own, with a cable each that is really pulled: packets are dropped.

Needs root and Linux; elsewhere the relays of `test_two_nodes` stand for it.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.machines import Machine, broker_at, center_at, moves_to_another_node, nodes, running, until, worker_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MARK = f"tcc{os.getpid() % 100_000}"
BRIDGE, HOST = f"{MARK}b", "10.231.47.1"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cable:
    """From a namespace of its own to the bridge."""

    def __init__(self, number: int) -> None:
        self.namespace, self._end = f"{MARK}n{number}", f"{MARK}v{number}"
        inner = f"{MARK}w{number}"
        ip("netns", "add", self.namespace)
        ip("link", "add", self._end, "type", "veth", "peer", "name", inner, "netns", self.namespace)
        ip("link", "set", self._end, "master", BRIDGE)
        ip("-n", self.namespace, "addr", "add", f"10.231.47.{number}/24", "dev", inner)
        for name in (inner, "lo"):
            ip("-n", self.namespace, "link", "set", name, "up")
        self.heal()

    def cut(self) -> None:
        ip("link", "set", self._end, "down")

    def heal(self) -> None:
        ip("link", "set", self._end, "up")

    def remove(self) -> None:
        ip("netns", "del", self.namespace)


@pytest.fixture
def cables() -> Iterator[list[Cable]]:
    with ExitStack() as stack:
        try:
            ip("link", "add", BRIDGE, "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network can be made here: {error}")
        stack.callback(ip, "link", "del", BRIDGE)
        ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        made = []
        for number in (2, 3):
            made.append(Cable(number))
            stack.callback(made[-1].remove)
        yield made


def test_a_job_of_a_node_whose_cable_is_pulled_goes_on_on_the_other(cables: list[Cable], tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    with ExitStack() as stack:
        broker = stack.enter_context(broker_at(tmp_path / "broker", HOST, "--protected-mode", "no"))
        center = stack.enter_context(center_at(tmp_path, HOST, broker))
        client = stack.enter_context(center.client())
        machines = []
        for cable in cables:
            folder = tmp_path / cable.namespace
            folder.mkdir()
            command = worker_command(center.url, center.data_dir / "worker-token", cable.namespace, folder / "work")
            settings = {"TRAINCTL_DATA_DIR": str(folder / "data"), "REDIS_URL": f"redis://{HOST}:{broker}/0"}
            inside = ["ip", "netns", "exec", cable.namespace, *command]
            process = stack.enter_context(running(inside, folder / "log", **settings))
            machines.append(Machine(cable.namespace, [cable], process, folder / "log"))
        until(lambda: {one.name for one in machines} <= nodes(client, "online"), "both nodes are online")
        moves_to_another_node(client, machines, "pulled")
