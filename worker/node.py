"""This machine as the control center knows it: registration and the beat of one lane, from the Celery parent."""

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.config import Settings
from app.gpus import Gpu
from app.versions import PACKAGE, installed
from worker.client import FORBIDDEN_BY_STATE, UNKNOWN, Client, Refused, ServerAway
from worker.files import link_or_copy
from worker.telemetry import Telemetry

log = logging.getLogger("worker.node")

BEAT_S = 1.0  # while the lane has a job; half as often while it has none
IDLE_READINGS = 3  # of so many beats of an idle lane one tells what the machine's instruments show
REFUSED_S = 30.0
JOIN_S = 3.0
REPORTED = (PACKAGE, "torch", "transformers", "peft", "bitsandbytes", "celery")


def describe_node(settings: Settings, gpus: Sequence[Gpu]) -> dict[str, Any]:
    """The body of a registration; without importing any of the packages whose versions it tells."""
    lane = {
        "name": settings.lane,
        "kind": "gpu" if gpus else "cpu",
        "gpus": [{"name": gpu.name, "memory": gpu.memory} for gpu in gpus],
        "labels": settings.label_list,
    }
    told = {"name": settings.node_name, "versions": _versions(), "lanes": [lane], "time": time.time()}
    return told | {"instance": instance_of(settings.work_path.absolute())}


def instance_of(work: Path) -> str | None:
    """What tells this work directory from those of other machines of the same name; made on its first use."""
    place, own = work / "instance", work / f".instance-{os.getpid()}"
    try:
        if not place.exists():
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            own.write_text(uuid.uuid4().hex)
            # Lanes that start together agree on the one that was first.
            link_or_copy(own, place)
            own.unlink()
        return place.read_text().strip()
    except OSError:
        # The first job will say that nothing can be written here.
        return None


def _versions() -> dict[str, str]:
    found = {package: installed(package) for package in REPORTED}
    return {"python": platform.python_version()} | {name: told for name, told in found.items() if told}


class Heart:
    """Registers the lane and beats each second, idle each other one, whatever happens to broker and control center."""

    def __init__(self, settings: Settings, gpus: Sequence[Gpu], draining: Callable[[], bool]) -> None:
        self._settings, self._gpus, self._draining = settings, gpus, draining
        self._telemetry = Telemetry(gpus, settings.work_path.absolute())
        self._stopped, self._due = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._node_id: int | None = None
        self._last_problem = ""
        self._refused = self._drained = self._busy = False
        self._num_beats = 0

    def start(self) -> None:
        self._settings.work_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()

    def nudge(self) -> None:
        """Something changed that the control center should know: beat now."""
        self._due.set()

    def stop(self) -> None:
        self._stopped.set()
        self._due.set()
        self._thread.join()

    def leave(self) -> None:
        """Stops, and tells the control center that this lane is gone; one that cannot be reached finds out itself."""
        self._stopped.set()
        self._due.set()
        self._thread.join(JOIN_S)
        if self._node_id is None:
            return
        client = Client(self._settings.base_url, self._settings.worker_token_path)
        try:
            client.leave(self._node_id, self._settings.lane)
        except (ServerAway, Refused) as error:
            log.info("The control center was not told that this lane leaves: %s", error)
        finally:
            client.close()

    def _run(self) -> None:
        client = Client(self._settings.base_url, self._settings.worker_token_path)
        while True:
            self._due.wait(self._pause_s)
            self._due.clear()
            if self._stopped.is_set():
                break
            try:
                self._beat(client)
                self._last_problem = ""
            except (ServerAway, Refused) as error:
                self._note(error)
            except Exception:
                # A lane that falls silent looks lost: whatever it was, the next beat is tried.
                log.exception("The beat could not be sent.")
        client.close()

    @property
    def _pause_s(self) -> float:
        if self._refused:
            return REFUSED_S
        if self._node_id is None:
            return BEAT_S / 4
        return BEAT_S if self._busy else 2 * BEAT_S

    def _beat(self, client: Client) -> None:
        if self._node_id is None:
            self._node_id = client.register(describe_node(self._settings, self._gpus))
            log.info("Registered lane %s of node %s.", self._settings.lane, self._settings.node_name)
        due = self._busy or self._num_beats % IDLE_READINGS == 0
        beat = {
            "lane": self._settings.lane,
            "telemetry": self._telemetry.read() if due else None,
            "draining": self._draining(),
            "time": time.time(),
        }
        reply = client.beat(self._node_id, beat)
        drain, self._busy = reply.drain, reply.busy
        self._num_beats += 1
        if drain != self._drained:
            log.info("This lane takes %s.", "no more jobs: the control center drains it" if drain else "jobs again")
        self._drained, self._refused = drain, False

    def _note(self, error: ServerAway | Refused) -> None:
        status = error.status if isinstance(error, Refused) else None
        # Another version than the control center's may not join: it is asked again, rarely, until one is updated.
        self._refused = status == FORBIDDEN_BY_STATE
        if status in (UNKNOWN, FORBIDDEN_BY_STATE):
            # Its data were replaced by others that do not know this node, or it was updated.
            self._node_id = None
        if status != UNKNOWN and str(error) != self._last_problem:
            log.warning("The control center does not take the beat: %s", error)
        self._last_problem = str(error)
