"""An adapter that a job goes on from: a new job on new data, with its own steps and a fresh optimizer."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from app.schemas import JobSpec
from worker.trainer.base_files import identity_of
from worker.trainer.export import ADAPTER_FILE
from worker.trainer.faults import JobFailed
from worker.trainer.model import LORA_TARGETS

# Its product with these is what the weights mean; another dropout changes nothing that was learned.
GEOMETRY = {"r": "lora_r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}


def read_parent(spec: JobSpec) -> dict[str, Tensor]:
    """The weights to start from, by PEFT's names; raises `JobFailed` that names every difference to this job."""
    assert spec.from_adapter_path is not None
    folder = Path(spec.from_adapter_path)
    config, manifest = _read(folder / "adapter_config.json"), _read(folder / "manifest.json", needed=False)
    found = differences(config, manifest, spec)
    if found:
        raise JobFailed(
            "adapter_mismatch",
            f"The adapter to go on from does not fit this job: {'; '.join(found)}.",
            "Give the job the adapter's base model and LoRA settings, or start it without the adapter.",
        )
    if not (folder / ADAPTER_FILE).is_file():
        raise _unreadable(folder / ADAPTER_FILE, "it is missing")
    return load_file(folder / ADAPTER_FILE)


def differences(config: dict[str, Any], manifest: dict[str, Any], spec: JobSpec) -> list[str]:
    ours = spec.config.model_dump()
    found = [
        f"{name} is {config.get(key)} in the adapter and {ours[name]} here"
        for key, name in GEOMETRY.items()
        if config.get(key, ours[name]) != ours[name]
    ]
    if config.get("target_modules") != LORA_TARGETS:
        found.append("it has other targets than the language model's linears")
    base = manifest.get("base_model_identity")
    if base is not None and base != identity_of(Path(spec.model_path)):
        found.append(f"it was trained on {manifest.get('base_model')}, which is not this job's {spec.model}")
    return found


def _read(path: Path, needed: bool = True) -> dict[str, Any]:
    if not needed and not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from None
    return value if isinstance(value, dict) else {}


def _unreadable(path: Path, why: str) -> JobFailed:
    return JobFailed(
        "adapter_broken",
        f"{path.name} of the adapter to go on from cannot be read: {why}.",
        "Name the folder of an adapter as it was saved here.",
    )
