"""A Qwen3-VL of any geometry with random weights, made on its device layer by layer: nothing is read or downloaded."""

import re
from typing import Any

import bitsandbytes as bnb
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from worker.trainer.attention import PACKED, use_attention
from worker.trainer.model import LORA_TARGETS, check_quantized

STD = 0.02


def random_base(geometry: dict[str, Any], use_qlora: bool, device: torch.device) -> Qwen3VLForConditionalGeneration:
    """As `load_base` leaves it: frozen, bf16 but for the language linears in NF4 with double quantization.

    At most one weight is on the device in bf16 before it is quantized.
    """
    torch.manual_seed(1)
    config = Qwen3VLConfig(**geometry)
    config._attn_implementation = "sdpa"
    with init_empty_weights(include_buffers=False):
        base = Qwen3VLForConditionalGeneration(config)
    for name, module in list(base.named_modules()):
        if use_qlora and isinstance(module, nn.Linear) and re.match(LORA_TARGETS, name):
            parent, _, own = name.rpartition(".")
            setattr(base.get_submodule(parent), own, _quantized(module, device))
        else:
            _fill(module, device)
    base.requires_grad_(False)
    use_attention(base, PACKED)
    if use_qlora:
        base.is_loaded_in_4bit = True  # so peft asks
        check_quantized(base)
    return base.train()


def _quantized(linear: nn.Linear, device: torch.device) -> bnb.nn.Linear4bit:
    made = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    # Moving it to its device is what quantizes it.
    made.weight = bnb.nn.Params4bit(
        _drawn(linear.weight, device), requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
    ).to(device)
    return made


def _fill(module: nn.Module, device: torch.device) -> None:
    for name, one in module._parameters.items():
        if one is not None and one.is_meta:
            module._parameters[name] = nn.Parameter(_drawn(one, device), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = buffer.to(device)


def _drawn(like: Tensor, device: torch.device) -> Tensor:
    """Vectors are norms' scales and biases; ones and zeros would do, and so does this."""
    if like.ndim == 1:
        return torch.ones(like.shape, dtype=torch.bfloat16, device=device)
    return torch.empty(like.shape, dtype=torch.bfloat16, device=device).normal_(std=STD)
