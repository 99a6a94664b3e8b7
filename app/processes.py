"""Child processes that do not outlive the process that started them."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.5
SHORT_LIFE_S = 5.0
LOG_BYTES = 10 * 2**20
UP_LOCK, WEB_LOCK = ".up.lock", ".web.lock"  # in the data directory, held by `trainctl up` and by the web process

Say = Callable[[str], None]

# Loaded before any fork: the child between fork and exec must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn`: the child gets `sign` when the THREAD that starts it ends, so start it from one that lasts."""
    parent = os.getpid()

    def prepare() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(PR_SET_PDEATHSIG, int(sign))
        if os.getppid() != parent:
            # The parent ended between the fork and the call above, so nobody will send the signal.
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def with_repository(environment: dict[str, str]) -> dict[str, str]:
    """The environment plus a `PYTHONPATH` from which `app` and `worker` can be imported."""
    paths = [str(REPOSITORY), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    return {**environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path))}


def take_lock(path: Path) -> int | None:
    """An exclusive lock as a file descriptor, held until that is closed; None where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def kill_group(pid: int, sign: signal.Signals = signal.SIGKILL) -> None:
    """Signals the process group that `pid` leads; one that is gone already is fine."""
    try:
        os.killpg(pid, sign)
    except (ProcessLookupError, PermissionError):
        # PermissionError is what macOS answers for a group of zombies.
        return


@dataclass
class Child:
    """One process to keep running; `log_path` takes its output, None leaves it on the terminal."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log_path: Path | None = None
    piped: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    failures: int = 0
    problem: str = ""

    def start(self) -> None:
        self.started = time.monotonic()
        output = _open_log(self.log_path) if self.log_path else None
        try:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if self.piped else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                # A Ctrl-C at the terminal goes to the launcher alone, which ends the children in order.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        finally:
            if output is not None:
                os.close(output)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tend(self, say: Say) -> None:
        """Notes a death and starts the process again once its pause is over."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.failures = self.failures + 1 if now - self.started < SHORT_LIFE_S else 0
            self.due = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.failures)
            say(f"{self.name} ended ({_how(self.process.returncode)}); starting it again." + self._see_log())
            self._forget()
        if self.process is None and now >= self.due:
            self._try_to_start(now, say)

    def _try_to_start(self, now: float, say: Say) -> None:
        """A machine without memory, processes or disk space for one part must not take the others along."""
        try:
            self.start()
            self.problem = ""
        except OSError as error:
            self.failures += 1
            self.due = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.failures)
            if str(error) != self.problem:
                say(f"{self.name} cannot be started and is tried again: {error}.")
            self.problem = str(error)

    def signal(self, sign: signal.Signals) -> None:
        if self.process is not None and self.alive:
            self.process.send_signal(sign)

    def kill(self) -> None:
        if self.process is not None and self.alive:
            kill_group(self.process.pid)

    def _forget(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None

    def _see_log(self) -> str:
        return f" Its log: {self.log_path}" if self.log_path else ""


def _open_log(path: Path) -> int:
    """A file to append to; a grown one is put aside, so that two of them are the most there is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
