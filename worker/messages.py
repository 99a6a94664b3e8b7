"""What the control center tells a worker."""

from typing import Any

from pydantic import BaseModel


class FileSpec(BaseModel):
    """One file by its path below a job directory."""

    path: str
    size: int
    sha256: str


class DatasetSpec(BaseModel):
    id: int
    name: str
    sha256: str
    size: int
    weight: float | None = None  # in a mixture: draws of an epoch for each example


class ResumePoint(BaseModel):
    """The checkpoint to go on from: it was written by `attempt`, its folder is `path`."""

    attempt: int
    step: int
    path: str
    files: list[FileSpec]


class ParentAdapter(BaseModel):
    """The adapter that a job goes on from; `sha256` is its weights'."""

    id: int
    name: str
    sha256: str | None = None
    files: list[FileSpec]


class Claim(BaseModel):
    """A job given to this lane, for as long as no other claim of it is made."""

    job_id: int
    attempt: int
    claim_token: str
    name: str
    kind: str = "train"
    model: str
    config: dict[str, Any]
    dataset: DatasetSpec
    mixture: list[DatasetSpec] = []
    validation_dataset: DatasetSpec | None = None
    from_adapter: ParentAdapter | None = None
    resume: ResumePoint | None = None
    lease_s: float = 60.0


class BeatReply(BaseModel):
    commands: list[str] = []
    mark: int = 0
    seq: int = 0


class NodeReply(BaseModel):
    """`drain`: a person wants this node to take no more jobs. `busy`: the lane holds one."""

    drain: bool = False
    busy: bool = False
