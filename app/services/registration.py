"""What a worker tells of its machine when it registers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.config import LONGEST_LABEL, LONGEST_NODE_NAME, NAME

LANE_NAME = r"^[\w.+-]+$"


# A clock's seconds since 1970, within what can be counted with.
Clock = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL, pattern=NAME)]


class NewGpu(BaseModel):
    name: str | None = Field(None, max_length=200)
    memory: int | None = Field(None, ge=0, le=2**53)  # bytes


class NewLane(BaseModel):
    name: str = Field(min_length=1, max_length=100, pattern=LANE_NAME)
    kind: str = "cpu"
    gpus: list[NewGpu] = Field(default_factory=list, max_length=64)
    labels: list[Label] = Field(default_factory=list, max_length=64)


class NewNode(BaseModel):
    """The body of `POST /api/worker/nodes`; `time` is the worker's clock, in seconds since 1970."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=LONGEST_NODE_NAME, pattern=NAME)
    versions: dict[str, Any] = Field(default_factory=dict)
    lanes: list[NewLane] = Field(min_length=1, max_length=64)
    instance: str | None = Field(None, max_length=100)
    time: Clock | None = None
