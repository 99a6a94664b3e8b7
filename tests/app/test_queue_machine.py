"""Seeded: lanes, people and failing machines do at random what they may, and the queue agrees with a plain model."""

import random
import time
from collections.abc import Callable

import pytest
from sqlmodel import select

from app.models import Job
from app.services import attempts, waiting
from tests.app.queue_model import ORDER, OVER, ModelJob, ModelQueue
from tests.factories import Center, Claim, Worker, rows

LANES = {"cpu": 0, "one": 1, "another": 1, "two": 2}
CARD = {"name": "card", "memory": 2**34}


class Machine:
    """The control center and the model side by side; each rule does the same to both."""

    def __init__(self, center: Center, seed: int, num_jobs: int) -> None:
        self.center, self.chance, self.num_jobs = center, random.Random(seed), num_jobs
        self.dataset_id = center.upload(rows(3))["id"]
        self.model = ModelQueue(LANES)
        self.workers = {name: Worker(center, name, "n", [CARD] * gpus) for name, gpus in LANES.items()}
        self.claims: dict[str, Claim] = {}

    def pick(self, *states: str) -> ModelJob | None:
        found = [job for job in self.model.jobs.values() if job.state in states]
        return self.chance.choice(found) if found else None

    def add(self) -> None:
        if len(self.model.jobs) == self.num_jobs:
            return
        good = [job.id for job in self.model.jobs.values() if job.state not in ("failed", "cancelled")]
        priority, retries = self.chance.choice(ORDER), self.chance.choice((0, 1, 5))
        gpus, after = self.chance.choice((0, 0, 0, 1, 2)), self.chance.sample(good, min(len(good), 2))
        after = after if self.chance.random() < 0.2 else []
        job = self.center.make_job(
            self.dataset_id, depends_on=after, needs={"gpus": gpus}, priority=priority, retries=retries
        )
        self.model.add(ModelJob(job["id"], priority, gpus, after, retries))

    def claim(self) -> None:
        free = [name for name in LANES if self.model.held_by(name) is None]
        if not free:
            return
        lane = self.chance.choice(free)
        wanted, claim = self.model.first_for(lane), self.workers[lane].claim()
        assert (claim and claim.job_id) == (wanted and wanted.id)
        if claim is not None and wanted is not None:
            self.claims[lane] = claim
            self.model.claim(wanted, lane)

    def count(self) -> None:
        """The trainer takes a step, and hears what is asked of it."""
        if (job := self.pick("claimed", "running")) is None:
            return
        claim = self.claims[job.lane or ""]
        if job.state == "claimed":
            claim.begin()
            job.state = "running"
        heard = claim.beat(claim.step(1)).json()["commands"]
        assert heard == ([job.asked] if job.asked else ["pause"] if job.makes_way_for else [])

    def end(self) -> None:
        """The trainer ends as it was asked to, or by itself."""
        if (job := self.pick("running")) is None:
            return
        claim = self.claims[job.lane or ""]
        if job.asked:
            claim.end({"cancel": "cancelled", "pause": "paused"}[job.asked])
            self.model.leave(job, {"cancel": "cancelled", "pause": "paused"}[job.asked])
        elif job.makes_way_for:
            claim.end("paused")
            self.model.step_back(job)
        elif self.chance.random() < 0.85:
            assert claim.succeed().status_code == 200
            self.model.leave(job, "succeeded")
        else:
            claim.end("failed", error={"code": "data", "message": "A fault of its data."})
            self.model.leave(job, "failed")

    def kill(self) -> None:
        """A worker falls silent for good; its lane is started again later."""
        if (job := self.pick("claimed", "running")) is None:
            return
        claim = self.claims[job.lane or ""]
        with self.center.database.write() as session:
            session.get_one(Job, job.id).lease_until = time.time() - 1
            session.flush()
            attempts.reap(session)
        self.model.lose(job)
        assert claim.beat().status_code == 409

    def cancel(self) -> None:
        if (job := self.pick("queued", "paused", "claimed", "running")) is None:
            return
        assert self.center.act(job.id, "cancel").status_code == 200
        if job.lane:
            job.asked = "cancel"
        else:
            self.model.leave(job, "cancelled")

    def pause(self) -> None:
        if (job := self.pick("claimed", "running")) is not None:
            answer = self.center.act(job.id, "pause")
            assert answer.status_code == (409 if job.asked == "cancel" else 200)
            job.asked = job.asked or "pause"

    def resume(self) -> None:
        if (job := self.pick("paused")) is not None:
            assert self.center.act(job.id, "resume").status_code == 200
            job.state, job.faults = "queued", 0
            self.model.put(job, len(self.model.line))

    def move(self) -> None:
        if (job := self.pick("queued")) is not None:
            position = self.chance.randint(1, len(self.model.queued()) + 1)
            self.model.move(job, position)
            assert self.center.act(job.id, "move", {"position": position}).status_code == 200

    def reprioritize(self) -> None:
        if (job := self.pick("queued", "claimed", "running", "paused")) is not None:
            job.priority = self.chance.choice(ORDER)
            assert self.center.act(job.id, "priority", {"priority": job.priority}).status_code == 200

    def preempt(self) -> None:
        if (job := self.pick("claimed", "running")) is None:
            return
        other = self.model.first_for(job.lane or "")
        refused = job.asked or job.makes_way_for or other is None
        assert self.center.act(job.id, "preempt").status_code == (409 if refused else 200)
        if not refused and other is not None:
            job.makes_way_for = other.id

    def agree(self) -> None:
        with self.center.database.read() as session:
            states = dict(session.exec(select(Job.id, Job.state)).all())
            assert states == {job.id: job.state for job in self.model.jobs.values()}
            assert [job.id for job in waiting.page(session, 1000)] == [job.id for job in self.model.queued()]

    def play(self) -> None:
        """Until all jobs were made and are over, or nothing can go on but what people paused."""
        people = [self.cancel, self.pause, self.resume, self.move, self.reprioritize, self.preempt, self.kill]
        rules: list[Callable[[], None]] = [*[self.add] * 4, *[self.claim] * 4, *[self.count] * 3, *[self.end] * 3]
        rules += [*people, self.move, self.reprioritize]
        for _ in range(40 * self.num_jobs):
            self.chance.choice(rules)()
            self.agree()
            if len(self.model.jobs) == self.num_jobs:
                rules = [self.claim, self.count, self.end, self.resume, self.move, self.kill]
                if all(job.state in OVER for job in self.model.jobs.values()):
                    return
        raise AssertionError("The jobs do not come to an end.")


@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_states_agree_with_the_model(center: Center, seed: int) -> None:
    Machine(center, seed, num_jobs=25).play()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
def test_three_hundred_jobs_on_four_lanes_agree_with_the_model(center: Center, seed: int) -> None:
    Machine(center, seed, num_jobs=300).play()
