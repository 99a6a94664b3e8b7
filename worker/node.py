"""This machine as the control center knows it: registration and the beat of one lane, from the Celery parent."""

import logging
import os
import platform
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from app.config import Settings
from app.gpus import Gpu
from worker.client import UNKNOWN, Client, Refused, ServerAway
from worker.telemetry import Telemetry

log = logging.getLogger("worker.node")

BEAT_S = 1.0
REPORTED = ("training-control-center", "torch", "transformers", "peft", "bitsandbytes", "celery")


def describe_node(settings: Settings, gpu: Gpu | None) -> dict[str, Any]:
    """The body of a registration; without importing any of the packages whose versions it tells."""
    gpus = [{"name": gpu.name, "memory": gpu.memory}] if gpu else []
    lane = {
        "name": settings.lane,
        "kind": "gpu" if gpu else "cpu",
        "gpus": gpus,
        "ram_total": psutil.virtual_memory().total,
    }
    return {"name": settings.node_name, "versions": _versions(), "lanes": [lane], "pid": os.getpid()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in REPORTED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Heart:
    """Registers the lane and beats once a second, whatever happens to the broker or the control center."""

    def __init__(self, settings: Settings, gpu: Gpu | None, draining: Callable[[], bool]) -> None:
        self._settings, self._gpu, self._draining = settings, gpu, draining
        self._telemetry = Telemetry(gpu, settings.work_path.absolute())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._node_id: int | None = None
        self._last_problem = ""

    def start(self) -> None:
        self._settings.work_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        client = Client(self._settings.base_url, self._settings.worker_token_path)
        while not self._stopped.wait(BEAT_S if self._node_id is not None else BEAT_S / 4):
            try:
                self._beat(client)
                self._last_problem = ""
            except (ServerAway, Refused) as error:
                self._note(error)
            except Exception:
                # A lane that falls silent looks lost: whatever it was, the next beat is tried.
                log.exception("The beat could not be sent.")
        client.close()

    def _beat(self, client: Client) -> None:
        if self._node_id is None:
            self._node_id = client.register(describe_node(self._settings, self._gpu))
            log.info("Registered lane %s of node %s.", self._settings.lane, self._settings.node_name)
        beat = {"lane": self._settings.lane, "telemetry": self._telemetry.read(), "draining": self._draining()}
        client.beat(self._node_id, beat)

    def _note(self, error: ServerAway | Refused) -> None:
        if isinstance(error, Refused) and error.status == UNKNOWN:
            # Its data were replaced by others that do not know this node.
            self._node_id = None
        elif str(error) != self._last_problem:
            log.warning("The control center does not take the beat: %s", error)
        self._last_problem = str(error)
