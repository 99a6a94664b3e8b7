"""The form of a new job: between the words of its fields and the body that REST takes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.schemas import TrainingConfig

JOB_FIELDS = {"dataset_id": "", "model": "", "name": "", "priority": "normal", "retries": "5"}
NEED_FIELDS = ("gpus", "memory", "labels", "node")
# Fields of the form that REST takes in another shape: lists, hours, and what is asked of a lane.
SCHEDULE_FIELDS = {"depends_on": "", "start_after": "", "zone": "", "max_hours": ""} | {
    f"needs_{name}": "" for name in NEED_FIELDS
}
RECIPE_FIELD = {"recipe_name": ""}  # what the settings are called when they are kept; no part of a job
FIELD_OF = {"max_duration_s": "max_hours", "datasets": "mixture"} | {
    f"needs.{name}": f"needs_{name}" for name in NEED_FIELDS
}
NUMBER = re.compile(r"[-+]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][-+]?[0-9]{1,3})?")
CHECKS = ("use_qlora", "use_rslora", "keep_best", "validation_leak_free", "validation_stratified")
MAIN_FIELDS = frozenset(
    "epochs max_steps learning_rate batch_size gradient_accumulation max_length lora_r lora_alpha lora_dropout "
    "use_qlora system_prompt".split()
)
FURTHER_FIELDS = frozenset(
    "scheduler warmup_ratio warmup_steps weight_decay max_grad_norm seed train_on truncation loss_mean use_rslora "
    "min_pixels max_pixels validation_share validation_count validation_leak_free "
    "validation_stratified validation_dataset_id eval_steps "
    "early_stopping_evals sample_prompts sample_steps "
    "save_steps save_minutes guardian max_temperature keep_checkpoints keep_best row_tokens checkpointed_layers".split()
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


def blank(model: str, dataset_id: int | None, source: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The form as it opens: defaults, or the settings of the job it repeats (as REST shows it)."""
    source = source or {}
    form = settings_of(source)
    form["mixture"] = _written(source.get("datasets") or ())
    named = {"model": model, "dataset_id": as_text(dataset_id)}
    return JOB_FIELDS | SCHEDULE_FIELDS | RECIPE_FIELD | form | _schedule(source) | named


def settings_of(source: Mapping[str, Any]) -> dict[str, str]:
    """The fields of the training's settings, as a job or a recipe has them; the others are the defaults."""
    values = TrainingConfig().model_dump() | source.get("config", {})
    return {name: as_text(values[name]) for name in CONFIG_FIELDS}


def _written(datasets: Sequence[Mapping[str, Any]]) -> str:
    """A mixture as its field has it: the weight of the form's own dataset, then the others."""
    first, *others = datasets or ({"weight": 1.0},)
    own = [] if first["weight"] == 1 else [f"x {as_text(first['weight'])}"]
    named = [f"{one['id']}" + ("" if one["weight"] == 1 else f" x {as_text(one['weight'])}") for one in others]
    return ", ".join(own + named)


def _schedule(source: Mapping[str, Any]) -> dict[str, str]:
    """What a repeated job asks of its lane; not when it was to begin, nor for whom it waited."""
    needs, longest = source.get("needs") or {}, source.get("max_duration_s")
    asked = {f"needs_{name}": as_text(value) for name, value in needs.items() if name in NEED_FIELDS}
    if "labels" in needs:
        asked["needs_labels"] = ", ".join(needs["labels"])
    if needs.get("memory"):
        asked["needs_memory"] = f"{needs['memory'] / 10**9:.6g} GB"
    return asked | {"max_hours": as_text(longest / 3600) if longest else ""}


def read_form(data: Mapping[str, Any]) -> dict[str, str]:
    """What was sent, with every field there: one that is not sent is as the form opens, a box not ticked."""
    usual = blank("", None) | dict.fromkeys(CHECKS, "false")
    sent = {name: str(data.get(name, default)).strip() for name, default in usual.items()}
    # Browsers send a line break as two characters, which would make another prompt of it.
    return sent | {"system_prompt": sent["system_prompt"].replace("\r\n", "\n")}


def to_body(form: Mapping[str, str]) -> dict[str, Any]:
    """The body of `POST /api/jobs` that the form stands for."""
    config = {name: _value(name, form[name]) for name in CONFIG_FIELDS}
    body: dict[str, Any] = {name: form[name] or None for name in JOB_FIELDS} | {"retries": number_of(form["retries"])}
    # An empty model or dataset must be answered as such, not as a field that is not there.
    body |= _asked_of_lane(form) | _asked_of_clock(form) | _mixed(form)
    return body | {"model": form["model"], "dataset_id": number_of(form["dataset_id"]), "config": config}


def _mixed(form: Mapping[str, str]) -> dict[str, Any]:
    """All datasets of a mixture, the form's own first; "x 2" without a number is the weight of that one."""
    mixed = []
    for one in form["mixture"].split(","):
        number, _, weight = (part.strip() for part in one.lower().replace("×", "x").partition("x"))
        if one.strip():
            mixed.append(
                {"id": number_of(number.removeprefix("#"))} | ({"weight": number_of(weight)} if weight else {})
            )
    first = number_of(form["dataset_id"])
    mixed = [one | {"id": first} if one["id"] == "" else one for one in mixed]
    own = [one for one in mixed if one["id"] == first] or [{"id": first}]
    return {"datasets": [*own, *(one for one in mixed if one["id"] != first)]} if mixed else {}


def _asked_of_lane(form: Mapping[str, str]) -> dict[str, Any]:
    needs: dict[str, Any] = {name: form[f"needs_{name}"] or None for name in NEED_FIELDS}
    needs["labels"] = [one.strip() for one in form["needs_labels"].split(",") if one.strip()]
    needs["gpus"] = number_of(form["needs_gpus"])
    return {"needs": {name: value for name, value in needs.items() if value not in (None, "", [])}}


def _asked_of_clock(form: Mapping[str, str]) -> dict[str, Any]:
    names = form["depends_on"].replace(",", " ").split()
    return {
        "depends_on": [number_of(name.removeprefix("#")) for name in names],
        "start_after": _moment(form["start_after"], form["zone"]),
        "max_duration_s": _seconds(form["max_hours"]),
    }


def _moment(text: str, zone: str) -> str | None:
    """A time of the reader's clock as one that needs no clock; what is no time is the service's to refuse."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone)) if zone else at.astimezone()).isoformat()
    except (ValueError, KeyError, OSError, OverflowError):
        return text


def _seconds(hours: str) -> str | float | None:
    try:
        return float(hours) * 3600 if hours else None
    except ValueError:
        return hours


def _value(name: str, text: str) -> Any:
    if name == "system_prompt":
        return text
    if text == "":
        return None
    if name in CHECKS:
        return text == "true"
    return number_of(text)


def number_of(text: str) -> Any:
    """A number where it is one, else the text, which the service refuses in words."""
    if not NUMBER.fullmatch(text):
        return text
    number = float(text)
    return int(text) if text.isdigit() else int(number) if number.is_integer() else number


def sort_errors(detail: Iterable[Mapping[str, str]], form: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Messages by field of the form, and the sentences that belong to no field."""
    by_field: dict[str, str] = {}
    others = []
    for one in detail:
        name = one["field"].removeprefix("config.")
        whole = name.partition(".")[0]
        name = FIELD_OF.get(name) or ("needs_labels" if name.startswith("needs.labels") else FIELD_OF.get(whole, whole))
        if name in form:
            by_field.setdefault(name, _plain(form[name], one["message"]))
        else:
            others.append(f"{name}: {one['message']}" if name != "config" else one["message"])
    return by_field, others


def _plain(text: str, message: str) -> str:
    if text == "":
        return "Must not be empty"
    return message[:1].upper() + message[1:]
