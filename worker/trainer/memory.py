"""How much memory is in use, as one sentence for the log."""

import resource
import sys
import time

import torch

LOG_EVERY_S = 60.0
GIB = 2**30


def memory_text(device: torch.device) -> str:
    """What the whole card holds, other processes included; on a CPU this process's own peak."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"GPU: {(total - free) / GIB:.1f} / {total / GIB:.1f} GB"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"RAM: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB:.1f} GB at most"


class Ticker:
    """True at most once an interval; the first call is."""

    def __init__(self, interval_s: float = LOG_EVERY_S) -> None:
        self._interval_s, self._next = interval_s, 0.0

    def due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval_s
        return True
