import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from app import launch, processes
from app.broker import NO_BROKER, POLL_S
from app.config import Settings
from app.launch import Greeter, Launcher, child_environment, lane_child, up, worker
from app.processes import Child
from tests.waiting import PATIENT_S, until

# Writes its name and process id whenever it starts or ends, and takes `grace` seconds to end.
PART = """
import os, signal, sys, time
name, log, grace = sys.argv[1], sys.argv[2], float(sys.argv[3])
def tell(what):
    with open(log, "a") as stream:
        stream.write(f"{what} {name} {os.getpid()}\\n")
def end(*_):
    time.sleep(grace)
    tell("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
tell("start")
time.sleep(600)
"""


def part(name: str, log: Path, grace: float = 0) -> Child:
    command = [sys.executable, "-c", PART, name, str(log), str(grace)]
    return Child(name, command, dict(os.environ))


def told(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def starts(log: Path, name: str) -> list[int]:
    return [int(pid) for what, who, pid in told(log) if (what, who) == ("start", name)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "parts.log"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Settings(data_dir=tmp_path / "data", port=port, node_name="here")


def run_launcher(script: str, *words: str) -> "subprocess.Popen[bytes]":
    """A launcher in a process of its own, with the two parts of `told` under it."""
    environment = dict(os.environ, PYTHONPATH=str(Path(launch.__file__).parents[1]))
    return subprocess.Popen([sys.executable, "-c", script, *words], env=environment, stdout=subprocess.PIPE)


SCRIPT = """
import sys
from pathlib import Path
from app.launch import Launcher, tell
from tests.app.test_launch import part
log = Path(sys.argv[1])
lane, web = part("lane", log, float(sys.argv[2])), part("web", log)
sys.exit(Launcher([(20.0, [lane]), (5.0, [web])], tell).run())
"""


def test_what_dies_is_started_again_and_nothing_else(log: Path) -> None:
    with run_launcher(SCRIPT, str(log), "0") as process:
        until(lambda: starts(log, "web") and starts(log, "lane"))
        os.kill(starts(log, "web")[0], signal.SIGKILL)
        until(lambda: len(starts(log, "web")) == 2)
        process.terminate()
    assert (len(starts(log, "lane")), process.returncode) == (1, 0)


def test_lanes_end_before_the_web_process_they_report_to(log: Path) -> None:
    with run_launcher(SCRIPT, str(log), "0.5") as process:
        until(lambda: starts(log, "web") and starts(log, "lane"))
        process.send_signal(signal.SIGINT)
    assert [who for what, who, _ in told(log) if what == "end"] == ["lane", "web"]


def test_a_second_ctrl_c_ends_at_once(log: Path) -> None:
    with run_launcher(SCRIPT, str(log), "60") as process:
        until(lambda: starts(log, "web") and starts(log, "lane"))
        process.send_signal(signal.SIGINT)
        until(lambda: b"Stopping" in os.read(process.stdout.fileno(), 200) if process.stdout else False)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENT_S) == 0
    assert not any(psutil.pid_exists(pid) for name in ("lane", "web") for pid in starts(log, name))


def test_no_part_outlives_a_killed_launcher(log: Path) -> None:
    with run_launcher(SCRIPT, str(log), "60") as process:
        until(lambda: starts(log, "web") and starts(log, "lane"))
        process.kill()
    pids = [*starts(log, "web"), *starts(log, "lane")]
    until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_cannot_start_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    child = Child("web", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), tmp_path / "logs" / "web.log")
    said: list[str] = []
    pauses = []
    for _ in range(6):
        child.due = 0
        child.tend(said.append)
        assert child.process is not None
        child.process.wait()
        child.due = 0
        before = time.monotonic()
        child.tend(said.append)
        pauses.append(child.due - before)
    assert [round(pause, 1) for pause in pauses[:3]] == [0.2, 0.4, 0.8]
    assert max(pauses) < 2
    assert "web ended (code 3)" in said[0] and "web.log" in said[0]


def test_a_part_that_the_machine_cannot_start_now_is_tried_again_and_told_of_once(tmp_path: Path) -> None:
    missing, said = tmp_path / "python", list[str]()
    child = Child("web", [str(missing), "-c", "import time; time.sleep(600)"], dict(os.environ))
    for _ in range(3):
        child.due = 0
        child.tend(said.append)
    assert len(said) == 1 and "web cannot be started" in said[0]
    missing.symlink_to(sys.executable)
    child.due = 0
    child.tend(said.append)
    assert child.alive and child.process is not None
    child.kill()
    child.process.wait()


def test_a_taken_port_is_one_sentence(settings: Settings) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", settings.port)):
        assert up(settings, ["cpu"], say=said.append) == 1 and not settings.data_dir.exists()
        settings.data_dir.mkdir()
        assert up(settings, ["cpu"], say=said.append) == 1
    assert len(said) == 2 and f"Port {settings.port} on 127.0.0.1 is taken" in said[0] == said[1]


def test_a_data_directory_has_one_launcher(settings: Settings) -> None:
    settings.data_dir.mkdir()
    lock = processes.take_lock(settings.data_dir / ".up.lock")
    assert lock is not None
    said: list[str] = []
    with os.fdopen(lock):
        assert up(settings, ["cpu"], say=said.append) == 1
    assert len(said) == 1 and "already serves" in said[0]


def test_the_parts_are_seen_in_ps_and_hold_no_secret(settings: Settings) -> None:
    secret = settings.model_copy(update={"redis_url": "rediss://:secret@host:1/0"})
    groups = launch._parts(secret, ["gpu0", "gpu1"])
    lines = [" ".join(child.command) for _, children in groups for child in children]
    assert [("celery -A worker.main worker -Q lane.here.gpu" in line) for line in lines] == [True, True, False]
    assert not any("secret" in line for line in lines)
    assert all(child.environment["REDIS_URL"].startswith("rediss") for _, children in groups for child in children)


def test_without_an_own_redis_there_is_a_broker(settings: Settings) -> None:
    names = [child.name for _, children in launch._parts(settings, ["cpu"]) for child in children]
    assert names == ["lane cpu", "web", "broker"]


def test_settings_survive_the_way_into_a_child(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = settings.model_copy(update={"hub": False, "lease_s": 3.0, "model_roots": "/a:/b"})
    environment = lane_child(changed, "gpu1", child_environment(changed), None).environment
    for name in [name for name in os.environ if name.startswith("TRAINCTL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if name.startswith("TRAINCTL_"):
            monkeypatch.setenv(name, value)
    assert Settings() == changed.model_copy(update={"lane": "gpu1"})


def test_a_worker_without_its_token_is_told_which_file(settings: Settings) -> None:
    said: list[str] = []
    assert worker(settings, ["cpu"], said.append) == 1
    assert str(settings.data_dir / "worker-token") in said[-1]


def test_a_worker_without_a_broker_is_told_what_that_means(settings: Settings) -> None:
    said: list[str] = []
    worker(settings, ["cpu"], said.append)
    assert "REDIS_URL is not set" in said[0] and "rediss://" in said[0] and f"every {POLL_S:g} s" in said[0]
    said.clear()
    worker(settings.model_copy(update={"redis_url": "redis://gpu-farm:6379"}), ["cpu"], said.append)
    assert "not encrypted" in said[0] and "no password" in said[1]


@pytest.mark.parametrize(("told", "url"), [(None, NO_BROKER), ("redis://127.0.0.1:1", "redis://127.0.0.1:1")])
def test_the_lanes_of_a_worker_without_a_broker_look_for_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, told: str | None, url: str
) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "worker-token").write_text("secret")
    started: list[Child] = []

    def note(launcher: Launcher) -> int:
        started.extend(launcher.children)
        return 0

    monkeypatch.setattr(Launcher, "run", note)
    assert worker(settings.model_copy(update={"redis_url": told}), ["cpu"], lambda text: None) == 0
    assert [child.environment["REDIS_URL"] for child in started] == [url]


def test_a_work_directory_has_one_launcher(settings: Settings) -> None:
    settings.work_path.mkdir(parents=True)
    (settings.data_dir / "worker-token").write_text("secret")
    lock = processes.take_lock(settings.work_path / ".lock")
    assert lock is not None
    said: list[str] = []
    with os.fdopen(lock):
        assert worker(settings, ["cpu"], said.append) == 1
    assert "Another worker already uses" in said[-1]


def test_up_and_worker_start_the_same_lanes(settings: Settings) -> None:
    ((_, lanes), *_) = launch._parts(settings, ["cpu", "cpu-2"])
    others = launch.lane_children(settings, ["cpu", "cpu-2"], None)
    assert [(one.command, one.environment) for one in lanes] == [(one.command, one.environment) for one in others]


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


def test_the_greeting_comes_once_and_only_when_web_answers(settings: Settings) -> None:
    said: list[str] = []
    greeter = Greeter(settings, lambda: "http://here/login", said.append)
    greeter.look()
    assert said == []
    with HTTPServer(("127.0.0.1", settings.port), Healthy) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        greeter.look()
        greeter.look()
        web.shutdown()
        thread.join()
    assert said == ["http://here/login"]


def test_a_grown_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    (tmp_path / "web.log").write_text("eleven bytes")
    os.close(processes._open_log(tmp_path / "web.log"))
    assert (tmp_path / "web.log.1").read_text() == "eleven bytes"
    assert (tmp_path / "web.log").stat().st_mode & 0o777 == 0o600


def test_the_launcher_loads_neither_web_nor_queue() -> None:
    code = "import sys, app.launch; print([n for n in ('fastapi', 'celery', 'sqlmodel', 'torch') if n in sys.modules])"
    with run_launcher(code) as process:
        assert process.stdout is not None and process.stdout.read() == b"[]\n"


def test_an_empty_launcher_ends_with_the_signal(log: Path) -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert Launcher([], lambda text: None).run() == 0
    timer.join()
