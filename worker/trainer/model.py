"""The base model in 4 bits or bf16, frozen, with LoRA on the language model's linears."""

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import bitsandbytes as bnb
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import BitsAndBytesConfig, Qwen3VLForConditionalGeneration

from app.schemas import TrainingConfig
from worker.trainer.attention import PACKED, use_attention
from worker.trainer.faults import JobFailed
from worker.trainer.packing import Row

# Matches nothing in the vision tower, whose linears are called qkv, proj and linear_fc1/2.
LORA_TARGETS = r"^model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)$"
# Matched from the start of a module's name: "visual" alone would skip nothing. A list replaces the default, so the
# head has to be named as well.
UNQUANTIZED = ["model.visual", "lm_head"]


@dataclass(frozen=True)
class Trainee:
    """A base model with its adapter; `base` and `peft` share their modules."""

    peft: PeftModel
    base: Qwen3VLForConditionalGeneration
    device: torch.device

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained ones, by name."""
        return {name: one for name, one in self.peft.named_parameters() if one.requires_grad}

    @property
    def num_trainable(self) -> int:
        return sum(one.numel() for one in self.parameters.values())

    @property
    def num_parameters(self) -> int:
        """All parameters, with 4-bit ones counted as what they stand for."""
        return int(self.peft.get_nb_trainable_parameters()[1])

    @property
    def head(self) -> Tensor:
        weight: Tensor = self.base.lm_head.weight
        return weight

    def precision(self) -> torch.autocast:
        """The adapter is fp32. On CUDA its products run in bf16; on a CPU that gains nothing and costs exactness."""
        fast = self.device.type == "cuda" and self.base.dtype == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=fast)

    def hidden(self, row: Row) -> Tensor:
        """[N, H]: the states that predict the row's targets."""
        with self.precision():
            # No attention mask and no cache: the segments say who may see whom, and so do the restarts of the
            # positions, from which dense attention makes its mask.
            states = self.base.model(
                input_ids=row.input_ids,
                position_ids=row.position_ids,
                segments=row.segments,
                attention_mask=None,
                use_cache=False,
                pixel_values=row.pixel_values,
                image_grid_thw=row.image_grid_thw,
            ).last_hidden_state
        selected: Tensor = states[0, row.predictors].to(self.base.lm_head.weight.dtype)
        return selected


def load_base(folder: Path, use_qlora: bool, device: torch.device) -> Qwen3VLForConditionalGeneration:
    """The frozen base model: NF4 with double quantization, or bf16."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=UNQUANTIZED,
    )
    base = Qwen3VLForConditionalGeneration.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=quantization if use_qlora else None,
        device_map={"": device},
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
    )
    # Freezing by hand: peft's preparation for k-bit training would turn embedding, head and norms into fp32.
    base.requires_grad_(False)
    use_attention(base, PACKED)
    if use_qlora:
        check_quantized(base)
    return base


def set_vision_aside(base: Qwen3VLForConditionalGeneration) -> None:
    """Takes the vision tower off the card, a GB of an 8B model, for a job in which no example has an image."""
    tower = base.model._modules.pop("visual")
    # Back in last place: transformers takes a model's device from its first parameter.
    base.model._modules["visual"] = tower.to("cpu")


def check_quantized(base: Qwen3VLForConditionalGeneration) -> None:
    """Every language linear is in 4 bits, nothing else is: names of modules move between library versions."""
    quantized = {name for name, module in base.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    wanted = {name for name, _ in base.named_modules() if re.match(LORA_TARGETS, name)}
    if quantized != wanted:
        wrong = ", ".join(sorted(quantized ^ wanted)[:5])
        raise JobFailed(
            "quantization_failed",
            f"The quantization did not take the layers it should have, for instance {wrong}.",
            "Install the versions of constraints.txt, or set use_qlora to false.",
        )


def add_lora(
    base: Qwen3VLForConditionalGeneration, config: TrainingConfig, device: torch.device, name: str = ""
) -> Trainee:
    """Puts fresh adapters on the language linears; their weights are fp32 and drawn from torch's generator."""
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=int(config.lora_alpha) if config.lora_alpha == int(config.lora_alpha) else config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        target_modules=LORA_TARGETS,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that is on its way out.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        peft = get_peft_model(base, lora)
    peft.peft_config["default"].base_model_name_or_path = name
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return Trainee(peft, base, device)


def checkpoint_layers(base: Qwen3VLForConditionalGeneration, wanted: str | int) -> int:
    """Recompute the first `wanted` decoder layers in the backward pass ("auto": all). Answers how many."""
    layers = base.model.language_model.layers
    count = len(layers) if isinstance(wanted, str) else wanted
    if count > len(layers):
        raise JobFailed(
            "wrong_config",
            f"checkpointed_layers is {count}, but this model has {len(layers)} layers.",
            f'Set checkpointed_layers to "auto" or to at most {len(layers)}.',
        )
    for place, layer in enumerate(layers):
        layer.gradient_checkpointing = place < count
        layer._gradient_checkpointing_func = checkpoint_without_reentry
    return count


def checkpoint_all_layers(base: Qwen3VLForConditionalGeneration) -> bool:
    """Answers whether that changes anything."""
    if all(layer.gradient_checkpointing for layer in base.model.language_model.layers):
        return False
    checkpoint_layers(base, "auto")
    return True


def checkpoint_without_reentry(function: object, *args: object) -> object:
    # Non-reentrant, so inputs need no gradient of their own. transformers' hook for that would also make the frozen
    # vision tower keep its activations.
    return checkpoint(function, *args, use_reentrant=False)
