"""Ends a worker whose pool process died while the broker is away; its launcher starts it again.

Celery replaces a dead pool process in the loop that runs while it is connected. Until then nobody would claim, although
the lane needs no broker for that.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

log = logging.getLogger("worker.pool")

# Connected, Celery replaces a dead process after 5 s at the most.
LOOK_S, LEFT_S = 2.0, 10.0


def watch_pool(draining: Callable[[], bool]) -> None:
    """Looks from a thread of its own for as long as the process lives."""
    threading.Thread(target=_watch, args=(draining,), name="pool-watch", daemon=True).start()


def _watch(draining: Callable[[], bool]) -> None:
    dead: int | None = None
    since, rest = 0.0, threading.Event()
    while not rest.wait(LOOK_S):
        before, dead = dead, dead_child()
        if dead is None or dead != before:
            since = time.monotonic()
        elif time.monotonic() - since > LEFT_S and not draining():
            log.error("The pool process %s died and Celery, which waits for its broker, leaves it so.", dead)
            os.kill(os.getpid(), signal.SIGTERM)  # to end in order
            return


def dead_child() -> int | None:
    """The process number of a child that ended and was not waited for; it stays for its parent to see."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None
