"""The finished adapter: a folder that plain PEFT loads, with a manifest of all that went into it."""

import platform
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes
import peft
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from worker.trainer.atomic import publish_dir, write_json
from worker.trainer.events import without_nan
from worker.trainer.faults import JobFailed
from worker.trainer.model import Trainee

ADAPTER_FILE = "adapter_model.safetensors"


def export_adapter(folder: Path, trainee: Trainee, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
    """Writes the folder anew, whole or not at all. Refuses an adapter that changes nothing."""
    if not changes_anything(tensors):
        raise JobFailed(
            "adapter_empty",
            "The trained adapter is still what it was at the start, so it would change no answer.",
            "Train for more steps or with a higher learning rate.",
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / ADAPTER_FILE, metadata={"format": "pt"})
    config = trainee.peft.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(temporary)
    write_json(temporary / "manifest.json", without_nan(manifest))
    (temporary / "README.md").write_text(card(manifest), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    publish_dir(temporary, folder)


def changes_anything(tensors: dict[str, Tensor]) -> bool:
    """LoRA adds B A x; as long as every B is zero the model answers as its base does."""
    return any(bool(one.any()) for name, one in tensors.items() if ".lora_B." in name)


def versions(device: torch.device) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "bitsandbytes": bitsandbytes.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def card(manifest: dict[str, Any]) -> str:
    """README.md of the adapter: what it is and how it is loaded, with the system prompt it was trained under."""
    validation = manifest["validation_loss"]
    return f"""---
base_model: {manifest["base_model"]}
library_name: peft
---
# {manifest["name"]}

A LoRA adapter for `{manifest["base_model"]}`, trained on `{manifest["dataset"].get("name", "a dataset")}`
({manifest["num_train"]:,} examples, {manifest["step"]:,} steps).

| | |
|---|---|
| rank, alpha | {manifest["config"]["lora_r"]}, {manifest["config"]["lora_alpha"]:g} |
| trainable parameters | {manifest["num_trainable"]:,} ({manifest["percent_trainable"]} %) |
| training loss, last step | {_figure(manifest["train_loss"])} |
| validation loss | {_figure(validation)} |

## Loading

```python
import torch
from peft import PeftModel
from transformers import Qwen3VLForConditionalGeneration

base = Qwen3VLForConditionalGeneration.from_pretrained("{manifest["base_model"]}", dtype=torch.bfloat16)
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```

## System prompt

Send this system prompt with every conversation; with another one, or with none, the answers drift back to the base
model's:

```
{manifest["system_prompt"]}
```
"""


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
