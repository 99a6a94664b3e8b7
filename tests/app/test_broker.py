import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
import redis

from app.broker import broker_directory, broker_url, broker_warnings, socket_path
from app.config import Settings
from app.processes import with_repository
from tests.waiting import PATIENT_S, until

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def directory() -> Iterator[Path]:
    """At a short path: that of a socket may have 107 characters."""
    with TemporaryDirectory() as folder:
        yield Path(folder) / "data & ü" / "broker"


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def make() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "app.broker", str(directory)]
        environment = with_repository(dict(os.environ))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        started.append(process)
        return process

    yield make
    for process in started:
        with process:
            process.terminate()


def connect(directory: Path) -> "redis.Redis":
    """A connection to the broker as soon as it answers."""
    client = redis.Redis(unix_socket_path=str(socket_path(directory)), decode_responses=True)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    until(answers)
    return client


def server_of(supervisor: "subprocess.Popen[bytes]") -> psutil.Process:
    [server] = psutil.Process(supervisor.pid).children()
    return server


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_server_is_private_and_forgets_nothing(start: Start, directory: Path) -> None:
    start()
    with connect(directory) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("port") == {"port": "0"}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert socket_path(directory).stat().st_mode & 0o777 == 0o600


def test_a_killed_server_comes_back_with_its_data(start: Start, directory: Path) -> None:
    supervisor = start()
    with connect(directory) as client:
        client.lpush("lane.here.cpu", "wake")
        until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
    server_of(supervisor).kill()
    with connect(directory) as client:
        assert client.lrange("lane.here.cpu", 0, -1) == ["wake"]


def test_server_and_supervisor_end_when_standard_input_closes(start: Start, directory: Path) -> None:
    supervisor = start()
    connect(directory).close()
    server = server_of(supervisor)
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    assert supervisor.wait(PATIENT_S) == 0
    assert gone(server)


def test_a_killed_supervisor_takes_its_server_along(start: Start, directory: Path) -> None:
    supervisor = start()
    connect(directory).close()
    server = server_of(supervisor)
    supervisor.send_signal(signal.SIGKILL)
    until(lambda: gone(server))


def test_two_supervisors_never_share_a_directory(start: Start, directory: Path) -> None:
    first = start()
    connect(directory).close()
    second = start()
    assert second.wait(PATIENT_S) == 1
    assert first.poll() is None


def test_damaged_files_do_not_keep_the_broker_down(start: Start, directory: Path) -> None:
    supervisor = start()
    connect(directory).close()
    supervisor.terminate()
    supervisor.wait()
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    start()
    connect(directory).close()
    assert (directory / "appendonlydir.damaged").is_dir()


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    assert len(str(socket_path(directory))) <= 100
    assert socket_path(directory) == socket_path(directory)
    assert socket_path(directory) != socket_path(tmp_path / ("long" * 31))


def test_a_broker_with_a_long_path_answers(start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory.parent.parent / "run"))
    long = directory.parent / ("long" * 30)
    command = [sys.executable, "-m", "app.broker", str(long)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=with_repository(dict(os.environ))) as supervisor:
        connect(long).close()
        assert socket_path(long).parent.stat().st_mode & 0o777 == 0o700
        supervisor.terminate()


def test_an_own_redis_replaces_the_embedded_one(tmp_path: Path) -> None:
    url = "rediss://:secret@example.org:6379/0"
    assert broker_url(Settings(data_dir=tmp_path, redis_url=url)) == url


def test_the_embedded_url_survives_odd_characters(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    settings = Settings(data_dir=directory.parent)
    assert broker_directory(settings) == directory
    assert broker_url(settings).endswith("/data%20%26%20%C3%BC/broker/valkey.sock")


@pytest.mark.parametrize(
    ("url", "count"),
    [(None, 0), ("redis://localhost:6379", 0), ("redis://gpu-box:6379", 2), ("rediss://:word@gpu-box:6379", 0)],
)
def test_an_unsafe_broker_is_warned_of(tmp_path: Path, url: str | None, count: int) -> None:
    assert len(broker_warnings(Settings(data_dir=tmp_path, redis_url=url))) == count


def test_a_folder_of_the_socket_that_was_cleared_away_is_made_again(
    start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = directory / ("deep" * 30)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = socket_path(directory)
    command = [sys.executable, "-m", "app.broker", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=with_repository(dict(os.environ))) as process:
        connect(directory).close()
        shutil.rmtree(place.parent)
        assert connect(directory).ping()
        assert not (directory / "appendonlydir.damaged").exists()
        process.terminate()


def test_a_server_whose_socket_is_gone_is_started_again(start: Start, directory: Path) -> None:
    start()
    connect(directory).close()
    socket_path(directory).unlink()
    assert connect(directory).ping()


def test_a_socket_that_goes_before_it_was_seen_is_made_again(start: Start, directory: Path) -> None:
    supervisor = start()
    children = psutil.Process(supervisor.pid).children
    until(children)
    supervisor.send_signal(signal.SIGSTOP)
    place = socket_path(directory)
    until(place.exists)
    place.unlink()
    supervisor.send_signal(signal.SIGCONT)
    assert connect(directory).ping()
