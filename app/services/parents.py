"""The adapter a job goes on from: the job must have its base model and the shape of its LoRA."""

from typing import Any

from sqlmodel import Session

from app.errors import WrongInput, wrong_field
from app.models import Adapter, Job
from app.schemas import TrainingConfig
from app.services.trashed import refuse_trashed

# With another value of these the adapter's weights would not fit, or would mean something else.
SHAPE = ("lora_r", "lora_alpha", "use_rslora", "use_dora", "targets")
WEIGHTS = "adapter_model.safetensors"


def take_up(
    session: Session, adapter_id: int, model: str, given: dict[str, Any], config: TrainingConfig
) -> TrainingConfig:
    """The configuration, its shape the adapter's where it was left open; `WrongInput` names every difference."""
    adapter = session.get(Adapter, adapter_id)
    if adapter is None:
        raise wrong_field("from_adapter", f"there is no adapter {adapter_id}")
    refuse_trashed(adapter)
    theirs = session.get_one(Job, adapter.job_id).config
    wrong = [
        {"field": f"config.{key}", "message": f"is {given[key]}, but adapter {adapter_id} has {_plain(theirs[key])}"}
        for key in SHAPE
        if key in given and given[key] != theirs[key]
    ]
    if model != adapter.model:
        wrong.append({"field": "model", "message": f"is {model}, but adapter {adapter_id} is for {adapter.model}"})
    if wrong:
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in wrong), wrong)
    return config.model_copy(update={key: theirs[key] for key in SHAPE})


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def claimed(session: Session, adapter_id: int | None) -> dict[str, Any] | None:
    """What a worker is told of it: which adapter, and the files to fetch."""
    adapter = session.get(Adapter, adapter_id) if adapter_id is not None else None
    if adapter is None:
        return None
    sha256 = next((one["sha256"] for one in adapter.files if one["path"] == WEIGHTS), None)
    return {"id": adapter.id, "name": adapter.name, "sha256": sha256, "files": adapter.files}
