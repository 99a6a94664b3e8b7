"""The flags of `trainctl train`: those of the original system, and one for every key of the configuration."""

import argparse
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import WrongInput
from app.schemas import TrainingConfig, read_config

# Keys of the original's config.json under another name here.
RENAMED = {
    "load_in_4bit": "use_qlora",
    "gradient_accumulation_steps": "gradient_accumulation",
    "num_eval_samples": "sample_prompts",
}
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
MODEL_KEYS = ("model_path", "base_model")
RENAMED_FLAGS = {"sample_prompts": ["--num-eval-samples"]}


@dataclass(frozen=True)
class Flags:
    dataset: Path
    model: str
    output_dir: Path
    config: TrainingConfig
    skip_validation: bool
    yes: bool
    resume: bool
    from_adapter: Path | None = None


def read_flags(arguments: Sequence[str]) -> Flags:
    """Flags win over `--config`, `--config` over defaults. Raises `AppError` that names what is wrong."""
    given = make_parser().parse_args(arguments)
    values, model = _read_file(given.config) if given.config else ({}, None)
    # By hand the base model is quantized only where that was asked for, as in the original.
    values = {"use_qlora": False} | values | {k: v for k, v in vars(given.settings).items() if v is not None}
    model = given.model or model
    if model is None:
        raise WrongInput("--model is missing: name a directory, tiny-qwen3-vl or a Hub id.")
    if not given.dataset.is_file():
        raise WrongInput(f"--dataset: there is no file {given.dataset}.")
    try:
        config = read_config(values, prefix="")
    except WrongInput as error:
        raise WrongInput(
            "; ".join(f"--{one['field'].replace('_', '-')}: {one['message']}" for one in error.detail)
        ) from None
    return Flags(
        dataset=given.dataset,
        model=model,
        output_dir=given.output_dir,
        config=config,
        skip_validation=given.skip_validation,
        yes=given.yes,
        resume=given.resume,
        from_adapter=_adapter(given.from_adapter),
    )


def _adapter(folder: Path | None) -> Path | None:
    for name in ADAPTER_FILES if folder is not None else ():
        if folder is not None and not (folder / name).is_file():
            raise WrongInput(f"--from-adapter: there is no {name} in {folder}.")
    return folder


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainctl train", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="JSONL file of conversations")
    parser.add_argument("--model", help="directory of a base model, tiny-qwen3-vl, or a Hub id")
    parser.add_argument("--output-dir", type=Path, required=True, help="where the adapter goes")
    parser.add_argument("--config", type=Path, help="JSON file with settings, the original's config.json included")
    parser.add_argument("--skip-validation", action="store_true", help="do not check the data first")
    parser.add_argument("--yes", "-y", action="store_true", help="ask nothing")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in the output directory"
    )
    parser.add_argument("--from-adapter", type=Path, help="folder of an adapter whose weights to start from")
    group = parser.add_argument_group("configuration", "null stands for none")
    for name, field in TrainingConfig.model_fields.items():
        flags = [f"--{name.replace('_', '-')}", *RENAMED_FLAGS.get(name, [])]
        if field.annotation is bool:
            group.add_argument(*flags, action=_Setting, key=name, nargs="?", const=True, type=_value)
        else:
            group.add_argument(*flags, action=_Setting, key=name, type=str if _is_text(field.annotation) else _value)
    parser.set_defaults(settings=argparse.Namespace())
    return parser


class _Setting(argparse.Action):
    """Collects the keys of the configuration that were given, and only those."""

    def __init__(self, option_strings: Sequence[str], dest: str, key: str, **more: Any) -> None:
        self._key = key
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, metavar="VALUE", **more)

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace.settings, self._key, values)


def _is_text(annotation: Any) -> bool:
    return annotation is str or typing.get_origin(annotation) is typing.Literal


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_file(path: Path) -> tuple[dict[str, Any], str | None]:
    """The settings of a config.json and its base model; keys that are not ours are named as ignored."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongInput(f"--config: {path}: {error.strerror}.") from None
    except ValueError as error:
        raise WrongInput(f"--config: {path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise WrongInput(f"--config: {path} must hold a JSON object.")
    named = {RENAMED.get(key, key): value for key, value in content.items()}
    known = {key: value for key, value in named.items() if key in TrainingConfig.model_fields and value is not None}
    ignored = sorted(set(content) - set(MODEL_KEYS) - {key for key in content if RENAMED.get(key, key) in known})
    if ignored:
        print(f"Ignored in {path}: {', '.join(ignored)}")  # noqa: T201 - a command line's answer
    model = next((str(content[key]) for key in MODEL_KEYS if content.get(key)), None)
    return known, model
