"""The body of a new job, checked field by field."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.schemas import Body
from app.services.needs import Moment, Needs

Priority = Literal["urgent", "high", "normal", "low"]
JobId = Annotated[int, Field(ge=1, le=2**53)]


class Mixed(Body):
    """A dataset of a mixture: an epoch has `weight` draws for each of its examples."""

    id: int = Field(ge=1, le=2**53)
    weight: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)


class NewJob(Body):
    """The body of `POST /api/jobs`; of `datasets` the first stands for the job where one name is shown."""

    dataset_id: int = Field(ge=1, le=2**53)
    datasets: list[Mixed] | None = Field(None, min_length=1, max_length=50)
    model: str = Field(min_length=1, max_length=500)
    name: str | None = Field(None, max_length=200)
    recipe: str | None = Field(None, max_length=100)
    config: dict[str, Any] = Field(default_factory=dict)
    priority: Priority = "normal"
    retries: int = Field(5, ge=0, le=100)
    kind: Literal["train"] = "train"
    from_adapter: int | None = Field(None, ge=1, le=2**53)
    needs: Needs | None = None
    depends_on: list[JobId] = Field(default_factory=list, max_length=100)
    start_after: Moment | None = None
    max_duration_s: float | None = Field(None, gt=0, le=10**9, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _first_of_the_mixture(cls, body: Any) -> Any:
        mixed = body.get("datasets")
        if "dataset_id" not in body and isinstance(mixed, list) and mixed and isinstance(mixed[0], dict):
            return body | {"dataset_id": mixed[0].get("id")}
        return body

    @field_validator("datasets")
    @classmethod
    def _each_once(cls, mixed: list[Mixed] | None, info: ValidationInfo) -> list[Mixed] | None:
        ids = [one.id for one in mixed or ()]
        if len(set(ids)) < len(ids):
            raise ValueError("names a dataset twice; give it a weight of 2")
        if mixed and info.data.get("dataset_id", ids[0]) != ids[0]:
            raise ValueError("stands beside another dataset_id; give one of the two")
        return mixed

    @property
    def dataset_ids(self) -> list[int]:
        return [one.id for one in self.datasets] if self.datasets else [self.dataset_id]
