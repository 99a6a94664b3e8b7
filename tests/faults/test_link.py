"""A worker behind a network that is cut: a short cut costs nothing, a long one costs it the job and nobody a step."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from app.broker import broker_url
from app.config import Settings
from tests.conftest import REPOSITORY
from tests.faults.course import STEPPING, Course, catch
from tests.faults.relay import Relay
from tests.faults.system import LEASE_S, RECOVERY_S, System, hold, is_alive, let_go, part_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Far:
    """A worker whose only way to the control center is the relay; `near` are the processes of the other lane."""

    relay: Relay
    jobs_dir: Path
    near: list[psutil.Process]


@pytest.fixture(scope="module")
def worker(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "worker-token").write_bytes((system.data_dir / "worker-token").read_bytes())
    relay = Relay(("127.0.0.1", system.port))
    settings = {"DATA_DIR": folder, "TOKEN_FILE": folder / "worker-token", "SERVER_URL": relay.url, "NODE_NAME": "far"}
    environment = {**os.environ, **{f"TRAINCTL_{name}": str(value) for name, value in settings.items()}}
    environment |= {"REDIS_URL": broker_url(Settings(data_dir=system.data_dir, redis_url=None)), "OMP_NUM_THREADS": "1"}
    near = [system.must_find("Celery parent"), system.must_find("Celery child")]
    command = [sys.executable, "-m", "app.cli", "worker"]
    with subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as launcher:
        until(lambda: len(system.get("/api/nodes")["items"]) == 2, "the worker elsewhere", 3 * RECOVERY_S)
        system.launchers.append(launcher.pid)
        yield Far(relay, folder / "worker" / "jobs", near)
        system.launchers.clear()
        launcher.terminate()
        launcher.wait(60)
    relay.close()


@pytest.fixture
def far(worker: Far) -> Iterator[Far]:
    """With the lane beside the control center standing still, so that jobs go to the far one."""
    for process in worker.near:
        hold(process)
    yield worker
    worker.relay.heal()
    for process in worker.near:
        let_go(process)


def test_a_short_cut_is_not_noticed(system: System, far: Far, reference: str) -> None:
    course = Course(system, far.jobs_dir).begin()
    trainer = catch(course, STEPPING)
    far.relay.cut()
    let_go(trainer)
    time.sleep(LEASE_S / 3)
    far.relay.heal()
    assert course.wait_for("succeeded")["attempt"] == 1
    course.check(["succeeded"], reference)


def test_after_a_long_cut_the_job_is_elsewhere_and_its_first_worker_lets_go(
    system: System, far: Far, reference: str
) -> None:
    course = Course(system, far.jobs_dir).begin()
    trainer = catch(course, STEPPING)
    until(course.checkpoints, f"a checkpoint of job {course.job_id}")
    far.relay.cut()
    course.wait_for("queued")
    for process in far.near:
        let_go(process)
    until(lambda: course.job()["attempt"] == 2, "another lane with the job")
    let_go(trainer)
    far.relay.heal()
    until(lambda: not is_alive(trainer), "the end of the trainer that lost its job")
    assert course.wait_for("succeeded")["attempt"] == 2
    course.check(["succeeded"], reference)
    assert not course.has("adapter") and part_of(trainer) == ""
