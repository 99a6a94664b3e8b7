"""The built-in base model: a Qwen3-VL of 0.4 M parameters, made on the spot, that really learns.

`python -m worker.trainer.tiny DIR` builds its directory.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from app.conversations.tiny_tokenizer import MERGE, PATCH, write_tiny_tokenizer
from worker.trainer.atomic import publish_dir

LAYERS, HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD_DIM = 2, 64, 4, 2, 16
# Wide enough for NF4's blocks of 64, and drawn with a spread at which gradients reach every layer. With the usual
# 0.02 such a small model hardly learns.
STD, HEAD_STD = 0.1, 1.0
SEED = 20


def build_tiny_model(folder: Path) -> Path:
    """Builds the model's directory, the same bytes each time. An existing directory is kept as it is."""
    if folder.exists():
        return folder
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write_tiny_tokenizer(temporary)
        config = tiny_config(token_ids(temporary))
        config.save_pretrained(temporary)
        save_file(tiny_weights(config), temporary / "model.safetensors", metadata={"format": "pt"})
        write_settings(temporary, config)
        publish_dir(temporary, folder)
    except OSError:
        # Another process was faster; its model is the same, byte for byte.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def token_ids(folder: Path) -> dict[str, int]:
    """Every token's id by its text, special ones included."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    added = {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    return {**tokenizer["model"]["vocab"], **added}


def tiny_config(ids: dict[str, int]) -> Qwen3VLConfig:
    text = {
        "vocab_size": -(-(max(ids.values()) + 1) // 64) * 64,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 32768,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_interleaved": True,
            "mrope_section": [4, 2, 2],
        },
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": 3,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": HEADS,
        "out_hidden_size": HIDDEN,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        architectures=["Qwen3VLForConditionalGeneration"],
        dtype="bfloat16",
    )


def tiny_weights(config: Qwen3VLConfig) -> dict[str, Tensor]:
    """Weights drawn in the order of their names from a generator of their own; global ones are left alone."""
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: drawn(name, weight.shape, generator).to(torch.bfloat16)
        for name, weight in sorted(model.state_dict().items())
    }


def drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) * (HEAD_STD if name.startswith("lm_head") else STD)


def write_settings(folder: Path, config: Qwen3VLConfig) -> None:
    ends = [config.text_config.eos_token_id, config.text_config.pad_token_id]
    generation = {"do_sample": False, "eos_token_id": ends, "pad_token_id": config.text_config.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", "utf-8")


def main(arguments: list[str]) -> int | str:
    if len(arguments) != 1:
        return "usage: python -m worker.trainer.tiny DIR"
    print(build_tiny_model(Path(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
