"""The launcher: starts the parts of the control center as processes of their own and keeps them running.

It imports little, opens no database and speaks to nobody; what dies is started again and takes no other part along.
"""

import contextlib
import errno
import http.client
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from app.broker import NO_BROKER, POLL_S, broker_directory, broker_warnings, socket_path
from app.config import LONGEST_LABEL, LONGEST_NODE_NAME, NAME, Settings
from app.gpus import lane_names
from app.processes import UP_LOCK, Child, Say, take_lock, with_repository

TICK_S = 0.1
LANE_GRACE_S = 30.0
OTHER_GRACE_S = 8.0
PORT_WAIT_S = 1.0
PATH_SETTINGS = ("data_dir", "token_file", "worker_dir", "inbox")


@dataclass
class Launcher:
    """`groups` are ended one after the other, the first one first, each with its own grace in seconds."""

    groups: list[tuple[float, list[Child]]]
    say: Say
    asked_to_stop: int = field(default=0)

    def run(self, each_tick: Callable[[], None] = lambda: None) -> int:
        """Blocks until SIGTERM or SIGINT; a second signal ends everything at once."""
        signs = [sign for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if _is_heard(sign)]
        handlers = {sign: signal.signal(sign, self._ask) for sign in signs}
        try:
            while not self.asked_to_stop:
                for child in self.children:
                    child.tend(self.say)
                each_tick()
                time.sleep(TICK_S)
            self._end()
        finally:
            for child in self.children:
                child.kill()
            for sign, handler in handlers.items():
                signal.signal(sign, handler)
        return 0

    @property
    def children(self) -> list[Child]:
        return [child for _, children in self.groups for child in children]

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked_to_stop += 1

    def _end(self) -> None:
        self.say("Stopping; running jobs are saved and go back to the queue. Ctrl-C again ends at once.")
        for grace, children in self.groups:
            for child in children:
                child.signal(signal.SIGTERM)
            until = time.monotonic() + grace
            while any(child.alive for child in children) and time.monotonic() < until and self.asked_to_stop < 2:
                time.sleep(TICK_S)
            for child in children:
                child.kill()


def up(
    settings: Settings,
    lanes: list[str] | None = None,
    greeting: Callable[[], str] | None = None,
    say: Say | None = None,
) -> int:
    """Runs broker, web and one worker a lane until a signal; the exit code. `greeting` is told once web answers."""
    say = say or tell
    if problem := _name_problem(settings):
        say(problem)
        return 2
    data_dir = settings.data_dir.absolute()
    if not data_dir.exists() and _has_no_port(settings, say):
        return 1  # before anything is made
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(data_dir / UP_LOCK)
    if lock is None:
        say(f"Another `trainctl up` already serves {data_dir}: stop that one, or choose another --data-dir.")
        return 1
    with os.fdopen(lock):
        if _has_no_port(settings, say):
            return 1
        for warning in broker_warnings(settings):
            say(warning)
        greeter = Greeter(settings, greeting, say)
        with _work_lock(settings, say) as free:
            return Launcher(_parts(settings, lanes or _lanes(settings)), say).run(greeter.look) if free else 1


def worker(settings: Settings, lanes: list[str] | None = None, say: Say | None = None) -> int:
    """Runs one Celery worker a lane of this machine for a control center elsewhere; the exit code."""
    say = say or tell
    if problem := _name_problem(settings):
        say(problem)
        return 2
    missing = _broker_missing(settings)
    for warning in [*missing, *broker_warnings(settings)]:
        say(warning)
    if missing:
        # Celery would look for the broker without end, and meanwhile not for a pool process that died.
        settings = settings.model_copy(update={"redis_url": NO_BROKER})
    if not settings.worker_token_path.is_file():
        say(f"There is no worker token at {settings.worker_token_path}: name the file with --token-file.")
        return 1
    with _work_lock(settings, say) as free:
        groups = [(LANE_GRACE_S, lane_children(settings, lanes or _lanes(settings), None))]
        return Launcher(groups, say).run() if free else 1


def _lanes(settings: Settings) -> list[str]:
    return lane_names(settings.gpus, settings.lanes)


def _name_problem(settings: Settings) -> str | None:
    """One sentence on a name that the control center would refuse each time this machine asks to join."""
    named = [("--node-name (or TRAINCTL_NODE_NAME)", settings.node_name, LONGEST_NODE_NAME)]
    named += [("--label (or TRAINCTL_LABELS)", label, LONGEST_LABEL) for label in settings.label_list]
    for flag, name, longest in named:
        if len(name) > longest or not re.fullmatch(NAME, name):
            return f'{flag} "{name}" cannot be used: write up to {longest} letters, digits, ".", "_" and "-".'
    return None


def _broker_missing(settings: Settings) -> list[str]:
    """A word to a worker that no wake-up will reach."""
    if settings.redis_url or socket_path(broker_directory(settings)).exists():
        return []
    return [
        f"REDIS_URL is not set: each lane looks for work by itself every {POLL_S:g} s. With the control center's"
        " REDIS_URL (rediss:// with a password) it is woken at once."
    ]


@contextlib.contextmanager
def _work_lock(settings: Settings, say: Say) -> Iterator[bool]:
    """Whether this launcher alone uses the work directory: two would end each other's trainers as strangers."""
    work = settings.work_path.absolute()
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(work / ".lock")
    if lock is None:
        say(f"Another worker already uses {work}: stop that one, or choose another --work-dir.")
        yield False
        return
    with os.fdopen(lock):
        yield True


def child_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, with absolute paths: nothing secret stands on a command line."""
    values = settings.model_dump(mode="json", exclude_none=True)
    paths = {name: str(Path(values[name]).absolute()) for name in PATH_SETTINGS if name in values}
    redis_url = values.pop("redis_url", None)
    named = {f"TRAINCTL_{name.upper()}": str(value) for name, value in (values | paths).items()}
    broker = {"REDIS_URL": str(redis_url)} if redis_url else {}
    return with_repository({**os.environ, **named, **broker, "PYTHONUNBUFFERED": "1"})


def lane_children(settings: Settings, lanes: list[str], log_dir: Path | None) -> list[Child]:
    """A Celery worker for each lane, on the machine of the control center and on any other."""
    environment = child_environment(settings)
    return [lane_child(settings, lane, environment, log_dir) for lane in lanes]


def lane_child(settings: Settings, lane: str, environment: dict[str, str], log_dir: Path | None) -> Child:
    """The Celery worker of one lane: one process, one message at a time, no chatter with other workers."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    queue = f"lane.{settings.node_name}.{lane}"
    command = [*_script("celery", "-m", "celery"), "-A", "worker.main", "worker", "-Q", queue]
    command += ["-P", "prefork", "-c", "1", "-n", f"{lane}@{settings.node_name}", *quiet]
    return Child(f"lane {lane}", command, {**environment, "TRAINCTL_LANE": lane}, _log(log_dir, f"lane-{lane}"))


class Greeter:
    """Says once that the pages can be opened, as soon as web answers."""

    def __init__(self, settings: Settings, greeting: Callable[[], str] | None, say: Say) -> None:
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        self._address, self._say = (host, settings.port), say
        self._greeting = greeting

    def look(self) -> None:
        if self._greeting is not None and _answers(*self._address):
            greeting, self._greeting = self._greeting, None
            self._say(greeting())


def _parts(settings: Settings, lanes: list[str]) -> list[tuple[float, list[Child]]]:
    environment, log_dir = child_environment(settings), settings.data_dir.absolute() / "logs"
    workers = lane_children(settings, lanes, log_dir)
    web = Child("web", [*_script("trainctl", "-m", "app.cli"), "web"], environment, _log(log_dir, "web"))
    # Lanes first: they save, and tell it to a web process that still answers.
    groups = [(LANE_GRACE_S, workers), (OTHER_GRACE_S, [web])]
    if settings.redis_url is None:
        command = [sys.executable, "-m", "app.broker", str(broker_directory(settings))]
        broker = Child("broker", command, environment, _log(log_dir, "broker"), piped=True)
        groups.append((OTHER_GRACE_S, [broker]))
    return groups


def _script(name: str, *module: str) -> list[str]:
    """A command of this environment under its own name, as `ps` shows it; as a module where it is not installed."""
    script = Path(sys.executable).parent / name
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, *module]


def _log(directory: Path | None, name: str) -> Path | None:
    return directory / f"{name}.log" if directory else None


def _has_no_port(settings: Settings, say: Say) -> bool:
    if problem := _port_problem(settings.host, settings.port):
        say(problem)
    return problem is not None


def _port_problem(host: str, port: int) -> str | None:
    """One sentence on why web could not listen there; a web process that is ending just now gets a moment."""
    until = time.monotonic() + PORT_WAIT_S
    while (error := _try_port(host, port)) is not None and error.errno == errno.EADDRINUSE and time.monotonic() < until:
        time.sleep(TICK_S)
    if error is None:
        return None
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program: stop that one, or choose another with --port."
    return f"Cannot listen on {host} port {port}: {error.strerror or error}."


def _try_port(host: str, port: int) -> OSError | None:
    try:
        family = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host or "0.0.0.0", port))
    except OSError as error:
        return error
    return None


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _is_heard(sign: signal.Signals) -> bool:
    """Whether a signal means something here: `nohup` starts programs that ignore the end of their terminal."""
    return signal.getsignal(sign) is not signal.SIG_IGN


def tell(text: str) -> None:
    """Prints a line, if anybody is left to read it: the parts must not end because a terminal did."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
