"""The settings of the training as people read them, named as the form of a new job names them."""

from collections.abc import Mapping
from typing import Any

from app.schemas import TrainingConfig
from app.services import recipes
from app.templating import number, short

PROMPT = "system_prompt"
LABELS = {
    "epochs": "Epochs",
    "max_steps": "Steps",
    "learning_rate": "Learning rate",
    "batch_size": "Batch size",
    "gradient_accumulation": "Gradient accumulation",
    "max_length": "Context",
    "lora_r": "Rank (r)",
    "lora_alpha": "Alpha",
    "lora_dropout": "Dropout",
    "use_qlora": "QLoRA",
    "system_prompt": "System prompt",
    "scheduler": "Scheduler",
    "warmup_ratio": "Warm-up share",
    "warmup_steps": "Warm-up steps",
    "weight_decay": "Weight decay",
    "max_grad_norm": "Gradient clipping",
    "seed": "Seed",
    "train_on": "Loss on",
    "truncation": "Too long examples",
    "loss_mean": "Mean of the loss over",
    "use_rslora": "Rank-stabilized (rsLoRA)",
    "min_pixels": "Least pixels of an image",
    "max_pixels": "Most pixels of an image",
    "validation_share": "Validation share",
    "validation_count": "Validation records",
    "validation_leak_free": "Like questions stay on one side",
    "validation_stratified": "Kinds of answers in equal shares",
    "validation_dataset_id": "Validation dataset",
    "eval_steps": "Evaluate every",
    "early_stopping_evals": "Stop early after",
    "sample_prompts": "Sample questions",
    "sample_steps": "Sample every",
    "save_steps": "Save every",
    "save_minutes": "Save at least every",
    "keep_checkpoints": "Keep",
    "keep_best": "Keep the best one too",
    "row_tokens": "Tokens of a row",
    "checkpointed_layers": "Layers computed twice",
    "guardian": "Guardian",
    "max_temperature": "Warn above",
}
CHOICES = {
    "scheduler": {"cosine": "Cosine", "linear": "Linear", "constant": "Constant"},
    "train_on": {"all_answers": "All answers", "last_answer": "The last answer"},
    "truncation": {"drop": "Leave out", "left": "Cut at the start", "right": "Cut at the end"},
    "loss_mean": {"targets": "Targets", "examples": "Examples"},
    "guardian": {"warn": "Warns of trouble", "off": "Off"},
}
UNITS = {
    "max_length": "token",
    "row_tokens": "token",
    "eval_steps": "step",
    "sample_steps": "step",
    "save_steps": "step",
    "save_minutes": "minute",
    "early_stopping_evals": "evaluation",
    "keep_checkpoints": "checkpoint",
}


def differences(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """The settings that are not the defaults, in the order of the form, each with what it usually is."""
    changed, usual = recipes.of_job(config), TrainingConfig().model_dump()
    known = [name for name in LABELS if name in changed and name != PROMPT]
    rest = [name for name in changed if name not in LABELS]
    return [
        {
            "label": LABELS.get(name, name),
            "value": with_unit(name, changed[name]) or "none",
            "usual": in_words(name, usual[name]).lower(),
        }
        for name in [*known, *rest]
    ]


def with_unit(name: str, value: Any) -> str:
    """4,096 tokens, 1 step."""
    words = in_words(name, value)
    is_counted = name in UNITS and isinstance(value, int | float)
    return f"{words} {UNITS[name]}{'' if value == 1 else 's'}" if is_counted else words


def in_words(name: str, value: Any) -> str:
    """A value as it is read: 2e-4, 4,096, on; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, int | float):
        return CHOICES.get(name, {}).get(value, str(value))
    if name in ("seed", "validation_dataset_id"):
        return str(value)
    return number(value) if isinstance(value, int) else short(value)
