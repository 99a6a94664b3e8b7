"""The queue as it should be, in plain Python: lists and dicts, no table and no clock."""

from dataclasses import dataclass, field

ORDER = ("urgent", "high", "normal", "low")
OVER = ("failed", "cancelled", "succeeded")


@dataclass
class ModelJob:
    id: int
    priority: str
    gpus: int
    depends_on: list[int]
    retries: int
    state: str = "queued"
    asked: str | None = None
    makes_way_for: int | None = None
    lane: str | None = None
    faults: int = 0


@dataclass
class ModelQueue:
    """`line` holds the jobs that are not over by age and as people moved them; priority comes before it."""

    lanes: dict[str, int]  # name -> GPUs
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    line: list[int] = field(default_factory=list)

    def add(self, job: ModelJob) -> None:
        self.jobs[job.id] = job
        self.line.append(job.id)

    def queued(self) -> list[ModelJob]:
        waiting = [self.jobs[one] for one in self.line if self.jobs[one].state == "queued"]
        return sorted(waiting, key=lambda job: ORDER.index(job.priority))

    def first_for(self, lane: str) -> ModelJob | None:
        for job in self.queued():
            if job.gpus <= self.lanes[lane] and all(self.jobs[one].state == "succeeded" for one in job.depends_on):
                return job
        return None

    def held_by(self, lane: str) -> ModelJob | None:
        return next((job for job in self.jobs.values() if job.lane == lane), None)

    def claim(self, job: ModelJob, lane: str) -> None:
        job.state, job.lane = "claimed", lane

    def leave(self, job: ModelJob, state: str) -> None:
        """From its lane, or from the queue, into a state; those who wait for it fall with it."""
        job.state, job.asked, job.makes_way_for, job.lane = state, None, None, None
        if state in OVER:
            self.line.remove(job.id)
        if state in ("failed", "cancelled"):
            for other in list(self.jobs.values()):
                if other.state == "queued" and job.id in other.depends_on:
                    self.leave(other, "cancelled")

    def put(self, job: ModelJob, index: int) -> None:
        self.line.remove(job.id)
        self.line.insert(index, job.id)

    def move(self, job: ModelJob, position: int) -> None:
        others = [one for one in self.queued() if one is not job]
        if position <= len(others):
            behind = others[position - 1]
            job.priority = behind.priority
            self.line.remove(job.id)
            self.line.insert(self.line.index(behind.id), job.id)
        elif others:
            job.priority = max(job.priority, others[-1].priority, key=ORDER.index)
            self.line.remove(job.id)
            self.line.insert(self.line.index(others[-1].id) + 1, job.id)

    def step_back(self, job: ModelJob) -> None:
        """Out of its lane and behind the job it makes way for.

        Where that one is gone, behind the next that fits and is of no lower priority.
        """
        front = self.jobs[job.makes_way_for or 0]
        lane = job.lane or ""
        chosen = front if front.state == "queued" else self.first_for(lane)
        if chosen is not front and chosen and ORDER.index(chosen.priority) > ORDER.index(job.priority):
            chosen = None
        queue = self.queued()
        self.leave(job, "queued")
        if chosen is None:
            return
        behind = queue[queue.index(chosen) + 1 :]
        lowest = behind[0].priority if behind else max(chosen.priority, job.priority, key=ORDER.index)
        job.priority = ORDER[min(max(map(ORDER.index, (job.priority, chosen.priority))), ORDER.index(lowest))]
        self.line.remove(job.id)
        if job.priority == chosen.priority:
            self.line.insert(self.line.index(chosen.id) + 1, job.id)
        elif behind and job.priority == behind[0].priority:
            self.line.insert(self.line.index(behind[0].id), job.id)
        else:
            self.line.append(job.id)

    def lose(self, job: ModelJob) -> None:
        """Its worker fell silent."""
        if job.asked:
            self.leave(job, {"cancel": "cancelled", "pause": "paused"}[job.asked])
        elif job.makes_way_for:
            self.step_back(job)
        else:
            job.faults += 1
            self.leave(job, "failed" if job.faults > job.retries else "queued")
