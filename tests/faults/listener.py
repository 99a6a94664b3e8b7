"""A client of a job's live stream that is cut by every death of the web process and connects again."""

import json
import threading
import time
from collections import Counter
from typing import Any

import httpx

from tests.faults.system import System, until

ENDED = ("succeeded", "failed", "cancelled")


class Listener:
    """Keeps a stream open in a thread, as a page does; `seen` are its events with `heard`, the time they came."""

    def __init__(self, system: System, job_id: int) -> None:
        self._system, self._job_id = system, job_id
        self.seen: list[dict[str, Any]] = []
        self.cuts = 0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def finish(self) -> list[dict[str, Any]]:
        """Hears the stream to its end, which comes once the job has ended; all events of the job, in order."""
        self._leave.set()
        until(lambda: not self._thread.is_alive(), f"the end of the stream of job {self._job_id}")
        return [one for one in self.seen if "seq" in one]

    def _listen(self) -> None:
        with self._system.server.client() as client:
            while not self._system.stopped:
                try:
                    if self._hear_once(client) and self._leave.is_set():
                        return
                except httpx.TransportError:
                    self.cuts += 1
                time.sleep(0.05)

    def _hear_once(self, client: httpx.Client) -> bool:
        """One connection; whether the control center said that it was done."""
        last = self.seen[-1]["id"] if self.seen else 0
        headers = {"Last-Event-ID": str(last)}
        kind = ""
        with client.stream("GET", f"/api/jobs/{self._job_id}/events", headers=headers) as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "event" and kind == "done":
                    return True
                if name == "data" and value.startswith("["):
                    heard = time.monotonic()
                    self.seen += [one | {"kind": kind, "heard": heard} for one in json.loads(value)]
        return False


def shown_steps(seen: list[dict[str, Any]]) -> list[int]:
    """The steps that a page shows after these events: a `resume_step` drops what lies beyond it."""
    steps: list[int] = []
    for one in seen:
        if one["kind"] == "state" and "resume_step" in one:
            steps = [step for step in steps if step <= one["resume_step"]]
        elif one["kind"] == "step":
            steps.append(one["step"])
    return steps


def doubled(seen: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(attempt, seq) of the events that came more than once."""
    counted = Counter((one["attempt"], one["seq"]) for one in seen)
    return [key for key, count in counted.items() if count > 1]


def ends(seen: list[dict[str, Any]]) -> list[str]:
    """The end states that were told of, in order."""
    return [one["state"] for one in seen if one["kind"] == "state" and one["state"] in ENDED]
