import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from app.broker import NO_BROKER, broker_directory, broker_url, socket_path
from app.config import Settings
from app.launch import child_environment, lane_child
from app.processes import with_repository
from tests.waiting import PATIENT_S, until
from tests.worker.conftest import fake_trainer
from tests.worker.fake_server import FakeServer

StartWorker = Callable[..., "subprocess.Popen[bytes]"]
QUEUE = "lane.here.cpu"


@pytest.fixture
def broker(settings: Settings) -> Iterator[str]:
    command = [sys.executable, "-m", "app.broker", str(broker_directory(settings))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=with_repository(dict(os.environ))) as supervisor:
        until(lambda: answers(socket_path(broker_directory(settings))))
        yield broker_url(settings)
        supervisor.terminate()


def answers(path: Path) -> bool:
    with redis.Redis(unix_socket_path=str(path)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def make(**plan: Any) -> "subprocess.Popen[bytes]":
        environment = child_environment(settings) | {"FAKE_TRAINER_PLAN": fake_trainer(tmp_path, **plan)[-1]}
        child = lane_child(settings, "cpu", environment, None)
        words = ["tests.worker.celery_with_fake_trainer" if word == "worker.main" else word for word in child.command]
        with (tmp_path / "celery.log").open("ab") as log:
            process = subprocess.Popen(words, env=child.environment, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        return process

    yield make
    for process in started:
        with process:
            process.kill()


def wake(url: str) -> None:
    with Celery("waker", broker=url) as sender:
        sender.send_task("worker.work", queue=QUEUE, ignore_result=True)


def steps(server: FakeServer) -> int:
    return sum(event["kind"] == "step" for events in server.events.values() for event in events)


def trainers(folder: Path) -> list[psutil.Process]:
    """Running trainers of this test."""
    found = psutil.process_iter(["cmdline", "status"])
    mine = [one for one in found if str(folder / "worker" / "jobs") in " ".join(one.info["cmdline"] or ())]
    return [one for one in mine if one.info["status"] != psutil.STATUS_ZOMBIE]


def at_work(server: FakeServer, start: StartWorker, broker: str | None = None) -> "subprocess.Popen[bytes]":
    """A worker amid a long job; without a broker it found that by its own clock."""
    worker = start(steps=10_000)
    server.offer()
    if broker:
        wake(broker)
    until(lambda: steps(server) > 2)
    return worker


def test_a_wake_up_through_the_broker_runs_the_job(server: FakeServer, broker: str, start: StartWorker) -> None:
    start(steps=3)
    until(lambda: server.beats and "claim" in server.order)
    server.offer()
    wake(broker)
    until(lambda: server.ends)
    assert (server.ends[0]["outcome"], steps(server)) == ("succeeded", 3)
    assert server.nodes[0]["lanes"][0]["name"] == "cpu" and server.beats[0]["telemetry"]["ram_total"] > 0


def test_a_worker_that_is_asked_to_end_puts_its_job_back_first(
    server: FakeServer, broker: str, start: StartWorker, tmp_path: Path
) -> None:
    worker = at_work(server, start, broker)
    worker.terminate()
    assert worker.wait(PATIENT_S) == 0
    assert (server.ends[0]["outcome"], trainers(tmp_path)) == ("released", [])
    assert any(beat.get("draining") for beat in server.beats) and len(server.files) == 1
    assert server.beats[-1] == {"lane": "cpu"}, "its last word is that it leaves"


def test_a_killed_worker_leaves_no_trainer_and_the_next_one_goes_on(
    server: FakeServer, broker: str, start: StartWorker, tmp_path: Path
) -> None:
    worker = at_work(server, start, broker)
    worker.kill()
    until(lambda: not trainers(tmp_path))
    server.offer(attempt=2)
    start(steps=3)
    wake(broker)
    until(lambda: server.ends)
    assert (server.ends[0]["outcome"], server.seqs(2)[0]) == ("succeeded", 1)


def test_a_dead_pool_process_is_replaced(server: FakeServer, broker: str, start: StartWorker, tmp_path: Path) -> None:
    worker = at_work(server, start, broker)
    [child] = psutil.Process(worker.pid).children()
    child.kill()
    until(lambda: not trainers(tmp_path))
    server.offer(attempt=2)
    until(lambda: server.seqs(2))


@pytest.fixture
def alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane of a worker that has no broker, as the launcher starts it; its clock is fast."""
    settings.redis_url = NO_BROKER
    monkeypatch.setenv("FAKE_POLL_S", "0.2")


def test_a_lane_whose_broker_is_away_beats_and_claims_by_itself(
    server: FakeServer, start: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_POLL_S", "0.2")
    worker = start(steps=3)
    server.offer()
    until(lambda: server.beats and server.ends)
    assert server.ends[0]["outcome"] == "succeeded"
    worker.terminate()
    assert worker.wait(PATIENT_S) == 0


@pytest.mark.usefixtures("alone")
def test_a_lane_without_a_broker_works_by_its_clock_and_asks_for_none(
    server: FakeServer, start: StartWorker, tmp_path: Path
) -> None:
    worker = start(steps=3)
    server.offer()
    until(lambda: server.beats and server.ends)
    worker.terminate()
    assert (server.ends[0]["outcome"], worker.wait(PATIENT_S)) == ("succeeded", 0)
    assert " ERROR " not in (tmp_path / "celery.log").read_text()


@pytest.mark.usefixtures("alone")
def test_a_dead_pool_process_is_replaced_without_a_broker(
    server: FakeServer, start: StartWorker, tmp_path: Path
) -> None:
    worker = at_work(server, start)
    [child] = psutil.Process(worker.pid).children()
    child.kill()
    until(lambda: not trainers(tmp_path))
    server.offer(attempt=2)
    until(lambda: server.seqs(2))


def test_a_worker_whose_pool_process_dies_while_the_broker_is_away_ends_to_be_started_again(
    server: FakeServer, broker: str, start: StartWorker, tmp_path: Path
) -> None:
    worker = at_work(server, start, broker)
    [supervisor] = [one for one in psutil.Process().children() if "app.broker" in one.cmdline()]
    supervisor.kill()
    until(lambda: not answers(Path(broker.removeprefix("redis+socket://"))))
    [child] = psutil.Process(worker.pid).children()
    child.kill()
    assert worker.wait(PATIENT_S) == 0
    assert trainers(tmp_path) == []
    assert f"The pool process {child.pid} died" in (tmp_path / "celery.log").read_text()


@pytest.mark.parametrize("url", [None, NO_BROKER], ids=["broker away", "no broker"])
def test_a_job_found_by_the_lane_itself_is_put_back_too(
    server: FakeServer,
    settings: Settings,
    start: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    url: str | None,
) -> None:
    monkeypatch.setenv("FAKE_POLL_S", "0.2")
    settings.redis_url = url
    worker = at_work(server, start)
    worker.terminate()
    assert worker.wait(PATIENT_S) == 0
    assert (server.ends[0]["outcome"], trainers(tmp_path)) == ("released", [])


def test_the_worker_loads_no_torch(settings: Settings) -> None:
    code = (
        "import sys, worker.main, worker.hub\n"
        "print([name for name in ('torch', 'transformers', 'fastapi', 'sqlmodel') if name in sys.modules])"
    )
    environment = child_environment(settings)
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
