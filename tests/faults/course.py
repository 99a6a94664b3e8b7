"""One job and the faults it meets on its way: the moments at which something dies, and what must be true afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.factories import rows
from tests.faults.listener import ENDED, Listener, doubled, ends, shown_steps
from tests.faults.report import note
from tests.faults.system import RECOVERY_S, TRAINER, System, hold, is_alive, let_go, until

# Their end leaves the trainer of a job alone.
WITHOUT_TRAINER = ("web", "broker", "broker's launcher")
STEPS, SAVED_EVERY = 30, 5
CONFIG = {
    "max_steps": STEPS,
    "save_steps": SAVED_EVERY,
    "gradient_accumulation": 2,
    "lora_r": 4,
    "sample_prompts": 0,
    "validation_share": 0,
}


@dataclass
class Course:
    """A job on its way. `attempt` is the folder of its newest attempt at its worker, below `jobs_dir`."""

    system: System
    jobs_dir: Path | None = None
    job_id: int = 0
    listener: Listener = field(init=False)

    def begin(self, config: dict[str, Any] | None = None) -> "Course":
        dataset = self.system.http.put("/api/datasets/faults.jsonl", content=rows(40, "faults")).json()
        body = {"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "config": CONFIG | (config or {}), "retries": 20}
        self.job_id = int(self.system.post("/api/jobs", body)["id"])
        self.listener = Listener(self.system, self.job_id)
        return self

    def job(self) -> dict[str, Any]:
        job: dict[str, Any] = self.system.get(f"/api/jobs/{self.job_id}")
        return job

    def wait_for(self, *states: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            job = self.job()
            return job if job["state"] in states else None

        return until(there, f"job {self.job_id} {' or '.join(states)}", seconds=3 * RECOVERY_S)

    @property
    def attempt(self) -> Path | None:
        found = ((self.jobs_dir or self.system.jobs_dir) / str(self.job_id)).glob("attempt-*")
        return max(found, key=lambda path: int(path.name.removeprefix("attempt-")), default=None)

    def has(self, pattern: str) -> bool:
        """Whether the newest attempt has such a file."""
        return self.attempt is not None and any(self.attempt.glob(pattern))

    def told(self, kind: str) -> int:
        """How many events of a kind the trainer of the newest attempt has written."""
        spool = self.attempt / "events.jsonl" if self.attempt else None
        return spool.read_bytes().count(f'"kind": "{kind}"'.encode()) if spool and spool.exists() else 0

    def checkpoints(self) -> list[dict[str, Any]]:
        """Those that the control center holds."""
        items: list[dict[str, Any]] = self.system.get(f"/api/jobs/{self.job_id}/checkpoints")["items"]
        return items

    def is_loading(self) -> bool:
        return self.told("state") > 0 and not self.is_running() and self.has("trainer.pid.json")

    def is_running(self) -> bool:
        return self.attempt is not None and b'"state": "running"' in _bytes(self.attempt / "events.jsonl")

    def is_claimed(self) -> bool:
        return self.has("claim.json") and not self.has("trainer.pid.json") and not self.told("log")

    def is_stepping(self) -> bool:
        return self.told("step") > SAVED_EVERY and not self.has("outcome.json")

    def is_saving(self) -> bool:
        return self.has("checkpoints/.step-*.tmp")

    def is_uploading(self) -> bool:
        return self.has("outgoing/adapter/*")

    def is_stopping(self) -> bool:
        return self.has("commands/cancel") and self.has("trainer.pid.json")

    def check(self, states: list[str], reference: str) -> None:
        """All that must be true of a job that ended, whatever died on its way."""
        seen = self.listener.finish()
        job = self.job()
        assert [job["state"], *ends(seen)] == [states[-1], *states], seen[-5:]
        # A trainer that dies while it saves for a stop leaves the job stopped, and that is told.
        told = (job["error"] or {}).get("message", "")
        assert job["error"] is None or (states[-1] == "cancelled" and "before it had saved" in told), job["error"]
        metrics = self.system.get(f"/api/jobs/{self.job_id}/metrics", params={"max_points": 10**6})
        assert metrics["step"] == shown_steps(seen) == list(range(1, job["step"] + 1))
        assert doubled(seen) == [] and ids(seen) == sorted(set(ids(seen)))
        assert missing(self, seen) == []
        until(lambda: not self.system.strangers(), f"no stranger but {self.system.strangers()}")
        if states[-1] == "succeeded":
            assert (job["step"], weights(self.system, job)) == (STEPS, reference)
        else:
            assert job["step"] >= self.checkpoints()[0]["step"] >= SAVED_EVERY


def ids(seen: list[dict[str, Any]]) -> list[int]:
    return [one["id"] for one in seen]


def missing(course: Course, seen: list[dict[str, Any]]) -> list[int]:
    """Ids of events that a client which connects now is told and the one that was there all the time was not."""
    late = Listener(course.system, course.job_id).finish()
    return sorted({*ids(late)} - {*ids(seen)})


def weights(system: System, job: dict[str, Any]) -> str:
    """The sha256 of the adapter's weights."""
    files = system.get(f"/api/adapters/{job['adapter_id']}")["files"]
    return next(str(one["sha256"]) for one in files if one["path"].endswith("adapter_model.safetensors"))


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@dataclass(frozen=True)
class Moment:
    """A point on a job's way: how it is seen, and whose stillness keeps it."""

    name: str
    is_now: Callable[[Course], bool]
    keeper: str


QUEUED = Moment("queued", lambda course: course.job()["state"] == "queued", "Celery child")
CLAIMED = Moment("claimed", Course.is_claimed, "Celery child")
LOADING = Moment("loading", Course.is_loading, TRAINER)
STEPPING = Moment("in a step", Course.is_stepping, TRAINER)
SAVING = Moment("writing a checkpoint", Course.is_saving, TRAINER)
UPLOADING = Moment("uploading an adapter", Course.is_uploading, "Celery child")
STOPPING = Moment("cancelling", Course.is_stopping, TRAINER)
MOMENTS = (QUEUED, CLAIMED, LOADING, STEPPING, SAVING, UPLOADING, STOPPING)


def catch(course: Course, moment: Moment) -> psutil.Process:
    """Waits for the moment and holds its keeper there, so that a narrow one is as wide as it has to be."""
    known: list[psutil.Process] = []

    def caught() -> psutil.Process | None:
        # Looked up beforehand: the look takes longer than some moments last.
        if not (known and is_alive(known[0])):
            known[:] = filter(None, [course.system.find(moment.keeper)])
        if not known or not moment.is_now(course):
            return None
        hold(known[0])
        if moment.is_now(course):
            return known[0]
        let_go(known[0])
        return None

    return until(caught, f"job {course.job_id} {moment.name}", seconds=3 * RECOVERY_S, pause=0.001)


@dataclass(frozen=True)
class Death:
    """Who died when, and in which attempt of the job."""

    who: str
    moment: Moment
    attempt: int
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)

    def is_over(self, event: dict[str, Any]) -> bool:
        """Whether the event shows that the job goes on: its end, or a word of the trainer that has it now."""
        if at(event) <= self.at:
            return False
        if event["kind"] == "telemetry":
            # A trainer that lived on is silent until it has loaded torch.
            return self.moment is LOADING and self.who in WITHOUT_TRAINER
        if event["kind"] == "state" and event["state"] in ENDED:
            return True
        spared = self.who in WITHOUT_TRAINER
        return bool(self.moment is not STOPPING and event["seq"] > 0 and (spared or event["attempt"] > self.attempt))


def strike(course: Course, who: str, moment: Moment) -> None:
    """Kills `who` at the moment and waits until the job has got over it; the seconds are noted for the table."""
    keeper = catch(course, moment)
    folder = course.attempt
    death = Death(who, moment, int(folder.name.removeprefix("attempt-")) if folder else 0)
    course.system.kill(who)
    let_go(keeper)

    def over() -> dict[str, Any] | None:
        return next((one for one in list(course.listener.seen) if death.is_over(one)), None)

    # Waited for longer where the machine is loaded; the table tells how long it was.
    event = until(over, f"job {course.job_id} going on after the end of {who} while {moment.name}")
    note(who, moment.name, float(event["heard"]) - death.clock, event)


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])
