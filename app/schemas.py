"""The training configuration: one frozen class that form, REST, command line, job row, trainer and manifest share.

Imports nothing but pydantic, so that the trainer can read it on a machine without the web side.
"""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from app.errors import WrongInput

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."
TINY_MODEL = "tiny-qwen3-vl"

Auto = Literal["auto"]

# Keys of the contract whose work is not built yet, with the only values that need none of it.
# Anything else is refused by name rather than ignored.
NOT_YET: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "loraplus_ratio": (None,),
    "targets": ("language",),
    "vision_learning_rate": (None,),
    "neftune_alpha": (None,),
    "thinking": ("as_is",),
    "guardian": ("off", "warn"),
}


class Body(BaseModel):
    """What somebody sends: no field that is not known, and true is no number, nor is a text."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TrainingConfig(Body):
    """Everything that decides what a job learns. Tokens, steps, minutes and pixels are plain integers."""

    model_config = ConfigDict(frozen=True)

    epochs: float = Field(1, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1, le=10**9)
    batch_size: int = Field(1, ge=1, le=1024)
    gradient_accumulation: int = Field(8, ge=1, le=4096)
    learning_rate: float = Field(2e-4, gt=0, le=10)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    warmup_steps: int | None = Field(None, ge=0, le=10**9)
    weight_decay: float = Field(0.0, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0, le=10**12)
    max_length: int = Field(2048, ge=16, le=262_144)
    truncation: Literal["drop", "left", "right"] = "drop"
    use_qlora: bool = True
    row_tokens: Auto | int = "auto"
    checkpointed_layers: Auto | int = "auto"
    loss_mean: Literal["targets", "examples"] = "targets"
    eval_steps: Auto | int = "auto"
    save_steps: Auto | int = "auto"
    save_minutes: float = Field(15, gt=0)
    early_stopping_evals: int | None = Field(None, ge=1)
    seed: int = Field(42, ge=0, lt=2**32)
    lora_r: int = Field(32, ge=1, le=1024)
    lora_alpha: float = Field(32, gt=0, le=10**6)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    use_rslora: bool = False
    use_dora: bool = False
    loraplus_ratio: float | None = None
    targets: Literal["language", "language+merger", "language+vision"] = "language"
    vision_learning_rate: float | None = None
    neftune_alpha: float | None = None
    min_pixels: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)
    system_prompt: str = Field(DEFAULT_SYSTEM_PROMPT, max_length=100_000)
    thinking: Literal["as_is", "empty_block", "require"] = "as_is"
    train_on: Literal["all_answers", "last_answer"] = "all_answers"
    validation_share: float = Field(0.01, ge=0, le=0.5)
    validation_count: int | None = Field(None, ge=0, le=10**9)
    validation_leak_free: bool = False
    validation_stratified: bool = False
    validation_dataset_id: int | None = Field(None, ge=1, le=2**53)
    keep_checkpoints: int = Field(2, ge=1, le=1000)
    keep_best: bool = True
    sample_prompts: int = Field(4, ge=0, le=64)
    sample_steps: Auto | int = "auto"
    max_temperature: float | None = Field(None, ge=30, le=150)
    guardian: Literal["off", "warn", "act"] = "warn"

    @field_validator("row_tokens", "checkpointed_layers", "eval_steps", "save_steps", "sample_steps", mode="before")
    @classmethod
    def _auto_or_positive(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "auto":
            return value
        least = 0 if info.field_name == "checkpointed_layers" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'must be "auto" or a whole number of at least {least}')
        return value

    @field_validator(*NOT_YET)
    @classmethod
    def _refuse_what_is_not_built(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = NOT_YET[info.field_name or ""]
        if value not in allowed:
            wanted = " or ".join("empty" if v is None else repr(v) for v in allowed)
            raise ValueError(f"is not supported by this version yet; leave it {wanted}")
        return value

    @field_validator("max_pixels")
    @classmethod
    def _max_pixels_reach_min_pixels(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_pixels")
        if value is not None and least is not None and value < least:
            raise ValueError("is smaller than min_pixels")
        return value

    @field_validator("row_tokens")
    @classmethod
    def _a_row_holds_the_longest_example(cls, value: Auto | int, info: ValidationInfo) -> Auto | int:
        if isinstance(value, int) and value < info.data.get("max_length", 0):
            raise ValueError("is smaller than max_length, so one example may not fit into a row")
        return value

    @property
    def step_size(self) -> int:
        """Examples of one optimizer step: micro-batch times accumulation."""
        return self.batch_size * self.gradient_accumulation

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps over so many examples; the last step of an epoch takes what is left."""
        per_epoch = math.ceil(num_examples / self.step_size)
        # Rounded first: 0.1 x 30 is a little more than 3 in floating point and must not cost a step.
        return self.max_steps or max(1, math.ceil(round(self.epochs * per_epoch, 6)))


class Source(BaseModel):
    """A dataset of a mixture, as the trainer reads it."""

    model_config = ConfigDict(extra="forbid")

    path: str
    dataset: dict[str, Any]
    weight: float = 1.0


class JobSpec(BaseModel):
    """`job.json`: all that a trainer process is told. Paths are absolute."""

    model_config = ConfigDict(extra="forbid")

    job_id: int
    attempt: int
    name: str
    model: str
    model_path: str
    model_revision: str | None = None
    dataset_path: str
    dataset: dict[str, Any]
    mixture: list[Source] = []  # all datasets where several are mixed, the first of them once more
    validation_path: str | None = None
    validation_dataset: dict[str, Any] | None = None
    config: TrainingConfig
    resume_path: str | None = None
    resume_step: int = 0
    output_path: str | None = None
    from_adapter_path: str | None = None
    from_adapter: dict[str, Any] | None = None  # id, name and the sha256 of its weights


def field_errors(error: ValidationError, prefix: str = "") -> list[dict[str, str]]:
    """Every wrong field of a pydantic error as {"field", "message"}, in words."""
    found = []
    for item in error.errors(include_url=False):
        names = [
            str(part)
            for part in item["loc"]
            if not (isinstance(part, str) and part.startswith(("literal[", "function-")))
        ]
        field = ".".join([prefix, *names] if prefix else names) or "body"
        found.append({"field": field, "message": in_words(item)})
    return found


WORDS = {
    "extra_forbidden": "is not a known field",
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text without broken characters",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_attributes_type": "must be an object",
    "json_invalid": "is not JSON",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "is not written as it must be",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "int_parsing_size": "is too large",
    "model_type": "must be an object",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def in_words(item: Any) -> str:
    """The sentence of one of pydantic's error items; follows the name of its field."""
    wording = WORDS.get(item["type"])
    if wording is None:
        return str(item["msg"]).removeprefix("Value error, ")
    return wording.format(**item.get("ctx", {}))


def read_config(values: dict[str, Any], prefix: str = "config") -> TrainingConfig:
    """A checked configuration; raises `WrongInput` that names every wrong field at once."""
    try:
        return TrainingConfig(**values)
    except ValidationError as error:
        detail = field_errors(error, prefix)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in detail), detail) from None
