"""A control center in real processes, each of which a test may kill, freeze and find again by what it does."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tests.conftest import Server, free_port, start_server

LEASE_S = 3.0
RECOVERY_S = LEASE_S + 10
# How many times as long a machine under load may take.
PATIENCE = float(os.environ.get("FAULTS_PATIENCE", "4"))
PARTS = ("web", "Celery parent", "Celery child", "broker", "broker's launcher")
EVERYTHING, LAUNCHER = "all at once", "trainctl up"
TRAINER = "trainer"
T = TypeVar("T")


def until(what: Callable[[], T | None], wanted: str, seconds: float = RECOVERY_S, pause: float = 0.02) -> T:
    """The first true answer of `what`; fails, in the words of `wanted`, when none comes."""
    end = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(pause)
    raise AssertionError(f"not seen in {seconds * PATIENCE:.0f} s: {wanted}")


class System:
    """`trainctl up` on one data directory; started again on the same port after all of it was killed."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir, self.port, self.environment = data_dir, free_port(), environment
        self.jobs_dir = Path(environment.get("TRAINCTL_WORKER_DIR", data_dir / "worker")) / "jobs"
        self.launchers: list[int] = []
        self.start()
        self.http = self.server.client()
        self.stopped = False

    def start(self) -> None:
        self.server: Server = start_server(self.data_dir, self.port, LEASE_S, **self.environment)

    def stop(self) -> None:
        self.stopped = True
        self.http.close()
        self.server.process.terminate()
        self.server.process.wait(60)

    def find(self, who: str) -> psutil.Process | None:
        """The living process of that part; None while there is none."""
        return next((one for one in self.tree() if part_of(one) == who and is_alive(one)), None)

    def must_find(self, who: str) -> psutil.Process:
        return until(lambda: self.find(who), f"a process of the {who}", pause=0.005)

    def tree(self) -> list[psutil.Process]:
        """All processes below the launchers; those of a worker elsewhere, which is in `launchers`, come first."""
        return [one for pid in (*self.launchers, self.server.process.pid) for one in below(pid)]

    def kill(self, who: str) -> None:
        """SIGKILL. After the end of `trainctl up` it is started again, as an init system would."""
        if who not in (EVERYTHING, LAUNCHER):
            self.must_find(who).kill()
            return
        launcher = psutil.Process(self.server.process.pid)
        for process in [launcher, *(below(launcher.pid) if who == EVERYTHING else [])]:
            signal_quietly(process, signal.SIGKILL)
        self.server.process.wait()
        self.start()

    def strangers(self) -> list[str]:
        """Processes of this data directory that are not under the launcher, and trainers; by command line."""
        ours = {self.server.process.pid, *(one.pid for one in self.tree() if part_of(one) != TRAINER)}
        return [" ".join(line) for pid, line in self._of_this_data() if pid not in ours]

    def _of_this_data(self) -> Iterator[tuple[int, list[str]]]:
        for process in psutil.process_iter():
            try:
                line, environment = process.cmdline(), process.environ()
            except psutil.Error:
                continue
            named = any(str(self.data_dir) in word for word in line)
            if is_alive(process) and (named or environment.get("TRAINCTL_DATA_DIR") == str(self.data_dir)):
                yield process.pid, line

    def get(self, path: str, **more: Any) -> Any:
        """The answer of a GET; asked again while the web process is away."""
        return until(lambda: self._try("GET", path, **more), f"an answer to GET {path}").json()

    def post(self, path: str, json: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = until(lambda: self._try("POST", path, json=json), f"an answer to {path}").json()
        return answer

    def _try(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        try:
            answer = self.http.request(method, path, **more)
        except httpx.TransportError:
            return None
        assert answer.status_code in (200, 201, 202, 503), answer.text
        return answer if answer.status_code != 503 else None


def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def part_of(process: psutil.Process) -> str:
    """Which part of the control center a process is, by its command line and its parent's."""
    try:
        line, parent = process.cmdline(), process.parent()
        above = parent.cmdline() if parent else []
    except psutil.Error:
        return ""
    if "worker.trainer" in line:
        return TRAINER
    if "worker.main" in line:
        return "Celery child" if "worker.main" in above else "Celery parent"
    if "app.broker" in line:
        return "broker's launcher"
    if line and "valkey-server" in line[0]:
        return "broker"
    return "web" if line and line[-1] == "web" else ""


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def signal_quietly(process: psutil.Process, sign: signal.Signals) -> None:
    """A signal to a process that may have ended just now."""
    try:
        process.send_signal(sign)
    except psutil.NoSuchProcess:
        return


def hold(process: psutil.Process) -> None:
    """Freezes a process and waits until it stands still."""
    signal_quietly(process, signal.SIGSTOP)
    end = time.monotonic() + 5
    while is_alive(process) and process.status() != psutil.STATUS_STOPPED and time.monotonic() < end:
        time.sleep(0.001)


def let_go(process: psutil.Process) -> None:
    signal_quietly(process, signal.SIGCONT)
