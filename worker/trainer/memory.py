"""How much memory is free, in use, and was in use at most: in bytes, and as sentences for the log."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.planner import MemoryPlan

LOG_EVERY_S = 60.0
GIB = 2**30
MEMINFO = Path("/proc/meminfo")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had: of the card, or of the machine; None on a machine that does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if not MEMINFO.exists():
        return None
    fields = dict(line.split(":", 1) for line in MEMINFO.read_text("ascii").splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def memory_text(device: torch.device) -> str:
    """What the whole card holds, other processes included; on a CPU this process's own peak."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"GPU: {(total - free) / GIB:.1f} / {total / GIB:.1f} GB"
    return f"RAM: {peak_of_process() / GIB:.1f} GB at most"


def peak_of_process() -> int:
    """The most bytes of RAM this process has ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(frozen=True)
class Meter:
    """Holds the plan against what is used from now on. On a CPU `before` is what the process held without the job."""

    device: torch.device
    plan: MemoryPlan
    before: int

    @classmethod
    def start(cls, device: torch.device, plan: MemoryPlan) -> "Meter":
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return cls(device, plan, 0)
        return cls(device, plan, peak_of_process())

    def measured(self) -> int:
        """The peak since the start, in bytes, as the plan counts."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return max(0, peak_of_process() - self.before)

    def told(self) -> dict[str, int]:
        """What an end reports, to stand beside the plan."""
        return {"measured_peak": self.measured()}

    def as_json(self) -> dict[str, Any]:
        return {"planned": self.plan.memory.as_json(), **self.told()}

    def text(self) -> str:
        share = self.measured() / max(1, self.plan.memory.total)
        return (
            f"Memory: {self.measured() / GIB:.2f} GB at most, {self.plan.memory.total / GIB:.2f} GB were planned "
            f"({100 * share:.0f} %)"
        )


class Ticker:
    """True at most once an interval; the first call is."""

    def __init__(self, interval_s: float = LOG_EVERY_S) -> None:
        self._interval_s, self._next = interval_s, 0.0

    def due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval_s
        return True
