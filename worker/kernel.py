"""What the kernel says of this machine's faults: its log, and how often it ended a process for want of memory."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

RECORD_BYTES = 1 << 13
MOST_RECORDS = 20_000


def memory_counters(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The file whose `oom_kill` counts the kills that may have met us: our cgroup's, else the whole machine's."""
    try:
        entries = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        entries = []
    old = [cgroups / "memory" / own.strip("/") / "memory.oom_control" for _, kind, own in entries if kind == "memory"]
    new = [cgroups / own.strip("/") / "memory.events" for number, _, own in entries if number == "0"]
    everywhere = [cgroups / "memory" / "memory.oom_control", cgroups / "memory.events", proc / "vmstat"]
    return [path for path in (*old, *new, *everywhere) if path.exists()][:1]


class Kernel:
    """Listens from its making on. A log that may not be read (a container, `dmesg_restrict`) just says nothing.

    `log` is /dev/kmsg, or any file that grows by lines; `counters` are files with a line `oom_kill N`.
    """

    def __init__(self, log: Path, counters: Sequence[Path] | None = None) -> None:
        self._counters = memory_counters() if counters is None else counters
        self._kills_before = self._count()
        self._descriptor = _open_at_end(log)
        self._said = b""

    def lines(self) -> list[str]:
        """What was logged since the start; the marks before each message of /dev/kmsg are left out."""
        if self._descriptor is not None:
            self._said += _read_all(self._descriptor)
        found = self._said.decode(errors="replace").splitlines()
        return [line.partition(";")[2] if line[:1].isdigit() and ";" in line else line for line in found]

    def oom_kills(self) -> int:
        return max(0, self._count() - self._kills_before)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _count(self) -> int:
        return sum(_read_counter(path) for path in self._counters)


def _open_at_end(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _read_all(descriptor: int) -> bytes:
    """All there is now. /dev/kmsg gives one record a read, EPIPE where some were overwritten, and EAGAIN at its end."""
    records = []
    for _ in range(MOST_RECORDS):
        try:
            record = os.read(descriptor, RECORD_BYTES)
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            break
        if not record:
            break
        records.append(record)
    return b"".join(records)


def _read_counter(path: Path) -> int:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == "oom_kill")
    except (OSError, ValueError):
        return 0
