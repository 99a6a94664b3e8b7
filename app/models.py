"""The tables, and the states a job may go through (the one table of allowed transitions)."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Index, MetaData, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.columns import json_field, moment

SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class JobState(StrEnum):
    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"

    def may_become(self, other: "JobState") -> bool:
        return other in TRANSITIONS[self]


_S = JobState
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.CLAIMED, _S.CANCELLED}),
    _S.CLAIMED: frozenset({_S.RUNNING, _S.QUEUED, _S.PAUSED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.PAUSED, _S.QUEUED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.CANCELLED: frozenset({_S.QUEUED}),
    _S.SUCCEEDED: frozenset(),
}
HELD = frozenset({_S.CLAIMED, _S.RUNNING})
ENDED = frozenset({_S.FAILED, _S.CANCELLED, _S.SUCCEEDED})
PRIORITIES = {"urgent": 0, "high": 1, "normal": 2, "low": 3}


class Dataset(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    state: str = Field(default="checking", index=True)
    version: int = 1
    parent_id: int | None = Field(default=None, foreign_key="dataset.id")
    sha256: str = Field(unique=True)
    size: int
    num_records: int | None = None
    num_valid: int | None = None
    findings: dict[str, int] | None = json_field()
    statistics: dict[str, Any] | None = json_field()
    reading: dict[str, Any] | None = json_field()  # shape and fields, where a person said how to read it
    unpacked: dict[str, Any] | None = json_field()  # container, size and sha256 of its lines; None for plain JSONL
    made: dict[str, Any] | None = json_field()  # from its parent: what was left out and repaired, with the counts
    compared_with: list[int] | None = json_field()  # the datasets whose questions must not stand in it
    progress: float = 0.0
    error: str | None = None
    created_at: datetime = moment(nullable=False)
    trashed_at: datetime | None = moment()


class Finding(SQLModel, table=True):
    __table_args__ = (Index(None, "dataset_id", "kind", "id"),)
    id: int | None = Field(default=None, primary_key=True)
    dataset_id: int = Field(foreign_key="dataset.id", ondelete="CASCADE")
    kind: str
    severity: str
    line: int
    field: str | None = None
    message: str
    excerpt: str | None = None
    other_line: int | None = None
    other_dataset: int | None = None  # whose line that is, if not this one's


class Job(SQLModel, table=True):
    __table_args__ = (Index(None, "state", "priority", "place"),)
    id: int | None = Field(default=None, primary_key=True)
    kind: str = "train"
    name: str
    state: str = JobState.QUEUED
    asked: str | None = None
    stop_now: bool = False
    save_asked: bool = False
    priority: int = PRIORITIES["normal"]
    place: int = 0
    dataset_id: int = Field(foreign_key="dataset.id", index=True)
    datasets: list[dict[str, Any]] | None = json_field()  # id and weight of each, where several are mixed
    model: str
    config: dict[str, Any] = json_field(dict)
    resolved: dict[str, Any] = json_field(dict)
    estimate: dict[str, Any] | None = json_field()
    from_adapter_id: int | None = None  # the adapter it goes on from; no foreign key: adapters point back at jobs
    attempt: int = 0
    claim_token: str | None = None
    lane_id: int | None = Field(default=None, foreign_key="lane.id")
    lease_until: float | None = None
    fresh_start: bool = False
    needs: dict[str, Any] | None = json_field()  # gpus, memory (bytes of one GPU), labels, node
    depends_on: list[int] = json_field(list)
    start_after: datetime | None = moment()
    max_duration_s: float | None = None
    sample_asked: bool = False
    makes_way_for: int | None = None  # the job it was preempted for; no foreign key, both are jobs
    faults: int = 0
    retries: int = 5
    last_fault: dict[str, Any] | None = json_field()
    phase: str | None = None
    step: int = 0
    num_steps: int | None = None
    epoch: float | None = None
    eta_s: float | None = None
    error: dict[str, Any] | None = json_field()
    server_seq: int = 0
    created_at: datetime = moment(nullable=False)
    started_at: datetime | None = moment()
    ended_at: datetime | None = moment()
    trashed_at: datetime | None = moment()


class Attempt(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE")
    number: int
    claim_token: str
    claim_key: str | None = None
    lane_id: int | None = Field(default=None, foreign_key="lane.id")
    resume_step: int = 0
    last_seq: int = 0
    reported: bool = False  # its worker itself told the end; one that lost the job never did
    outcome: str | None = None
    error: dict[str, Any] | None = json_field()
    black_box: dict[str, Any] | None = json_field()  # what was last seen of an attempt that ended badly
    started_at: datetime = moment(nullable=False)
    ended_at: datetime | None = moment()


class Event(SQLModel, table=True):
    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "seq"),
        Index(None, "job_id", "id"),
        Index(None, "job_id", "kind", "id"),
        Index(None, "kind", "id"),
        Index(None, "lane_job_id", "id"),
        Index(None, "lane_id", "at", sqlite_where=text("lane_id IS NOT NULL")),
        {"sqlite_autoincrement": True},  # an id is never used again
    )
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = moment(nullable=False)
    kind: str
    job_id: int | None = Field(default=None, foreign_key="job.id", ondelete="CASCADE")
    attempt: int | None = None
    seq: int | None = None
    lane_id: int | None = None
    lane_job_id: int | None = None  # the job the lane held when this telemetry was read
    step: int | None = None
    superseded: bool = False
    data: dict[str, Any] = json_field(dict)


class Metric(SQLModel, table=True):
    """One optimizer step of a job, of the newest attempt that holds it."""

    __table_args__ = {"sqlite_with_rowid": False}
    job_id: int = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    step: int = Field(primary_key=True)
    attempt: int
    event_id: int
    at: float
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    num_tokens: int | None = None
    num_targets: int | None = None
    tokens_per_s: float | None = None
    step_s: float | None = None
    epoch: float | None = None


class Rollup(SQLModel, table=True):
    """Of the steps in [bucket * width, (bucket + 1) * width): where a curve is least and greatest, and its mean."""

    __table_args__ = {"sqlite_with_rowid": False}
    job_id: int = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    curve: str = Field(primary_key=True)
    width: int = Field(primary_key=True)
    bucket: int = Field(primary_key=True)
    low: float | None = None  # null where no step has a value; both steps are the first one then
    low_step: int
    high: float | None = None
    high_step: int
    total: float
    num_values: int


class StoredFile(SQLModel, table=True):
    """A file of an attempt that lies on the server with a verified hash."""

    __table_args__ = (UniqueConstraint("job_id", "attempt", "path"),)
    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE")
    attempt: int
    path: str
    size: int
    sha256: str


class Checkpoint(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("job_id", "attempt", "step"),)
    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE")
    attempt: int
    step: int
    size: int
    best: bool = False
    eval_loss: float | None = None
    path: str
    files: list[dict[str, Any]] = json_field(list)
    complete: bool = False
    superseded: bool = False
    retired: bool = False
    created_at: datetime = moment(nullable=False)
    trashed_at: datetime | None = moment()


class Adapter(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    job_id: int = Field(foreign_key="job.id", unique=True)
    attempt: int
    model: str
    step: int
    size: int
    files: list[dict[str, Any]] = json_field(list)
    manifest: dict[str, Any] = json_field(dict)
    created_at: datetime = moment(nullable=False)
    trashed_at: datetime | None = moment()


class Node(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    versions: dict[str, Any] = json_field(dict)
    address: str | None = None
    clock_skew_s: float | None = None  # its clock less ours
    instance: str | None = None  # which machine it is: two with one name would take each other's jobs
    drain_asked: bool = False  # a person wants its lanes to take no more jobs
    left_at: datetime | None = moment()
    created_at: datetime = moment(nullable=False)
    last_seen_at: datetime = moment(nullable=False)


class Lane(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("node_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    node_id: int = Field(foreign_key="node.id", ondelete="CASCADE")
    name: str
    kind: str = "cpu"
    gpus: list[dict[str, Any]] = json_field(list)
    labels: list[str] = json_field(list)
    telemetry: dict[str, Any] | None = json_field()
    draining: bool = False
    idle: bool = True
    last_seen_at: datetime = moment(nullable=False)
    left_at: datetime | None = moment()  # its worker ended and said so


class History(SQLModel, table=True):
    """Who did what to a job, and when."""

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE", index=True)
    at: datetime = moment(nullable=False)
    who: str
    action: str
    detail: dict[str, Any] | None = json_field()


class Nonce(SQLModel, table=True):
    """A one-time log-in code that was spent; kept until it would have expired."""

    value: str = Field(primary_key=True)
    expires_at: float


class Mark(SQLModel, table=True):
    """Small facts the control center remembers by name, such as the newest telemetry id thrown away."""

    name: str = Field(primary_key=True)
    value: int


class Setting(SQLModel, table=True):
    """What a person set for the whole control center while it ran: the queue's pause, quiet hours, retention."""

    name: str = Field(primary_key=True)
    value: Any = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    changed_at: datetime = moment(nullable=False)
