"""The form of a new job: between the words of its fields and the body that REST takes."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.schemas import TrainingConfig

JOB_FIELDS = {"dataset_id": "", "model": "", "name": "", "priority": "normal", "retries": "5"}
AUTO_FIELDS = ("row_tokens", "checkpointed_layers", "eval_steps", "save_steps", "sample_steps")
CHECKS = ("use_qlora", "use_rslora", "keep_best")
MAIN_FIELDS = frozenset(
    "epochs max_steps learning_rate batch_size gradient_accumulation max_length lora_r lora_alpha lora_dropout "
    "use_qlora system_prompt".split()
)
FURTHER_FIELDS = frozenset(
    "scheduler warmup_ratio warmup_steps weight_decay max_grad_norm seed train_on truncation loss_mean use_rslora "
    "min_pixels max_pixels validation_share validation_dataset_id eval_steps early_stopping_evals sample_prompts "
    "sample_steps save_steps save_minutes keep_checkpoints keep_best row_tokens checkpointed_layers".split()
)
CONFIG_FIELDS = MAIN_FIELDS | FURTHER_FIELDS


def as_text(value: Any) -> str:
    """A value as its field shows it: nothing is empty, 1.0 is 1, 0.0002 is 2e-4."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def blank(model: str, dataset_id: int | None, config: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The form as it opens: defaults, or the configuration of the job it repeats."""
    values = TrainingConfig().model_dump() | dict(config or {})
    form = {name: as_text(values[name]) for name in CONFIG_FIELDS}
    return JOB_FIELDS | form | {"model": model, "dataset_id": as_text(dataset_id)}


def read_form(data: Mapping[str, Any]) -> dict[str, str]:
    """What was sent, with every field there; a box that is not ticked is not sent."""
    names = [*JOB_FIELDS, *CONFIG_FIELDS]
    return {name: str(data.get(name, "false" if name in CHECKS else "")).strip() for name in names}


def to_body(form: Mapping[str, str]) -> dict[str, Any]:
    """The body of `POST /api/jobs` that the form stands for."""
    config = {name: _value(name, form[name]) for name in CONFIG_FIELDS}
    body: dict[str, Any] = {name: form[name] or None for name in JOB_FIELDS}
    # An empty model or dataset must be answered as such, not as a field that is not there.
    return body | {"model": form["model"], "dataset_id": form["dataset_id"], "config": config}


def _value(name: str, text: str) -> Any:
    if name == "system_prompt":
        return text
    if text == "":
        return None
    if name in CHECKS:
        return text == "true"
    return int(text) if name in AUTO_FIELDS and text.isascii() and text.isdigit() else text


def sort_errors(detail: Iterable[Mapping[str, str]], form: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Messages by field of the form, and the sentences that belong to no field."""
    by_field: dict[str, str] = {}
    others = []
    for one in detail:
        name = one["field"].removeprefix("config.")
        if name in form:
            by_field.setdefault(name, _plain(form[name], one["message"]))
        else:
            others.append(f"{name}: {one['message']}" if name != "config" else one["message"])
    return by_field, others


def _plain(text: str, message: str) -> str:
    if text == "":
        return "Must not be empty"
    return message[:1].upper() + message[1:]
