"""A step of 8 examples on one CPU thread: ours, Hugging Face's Trainer, and TRL's SFTTrainer at its best settings.

    python benchmarks/train_cpu.py [--json FILE]

The same model (7 M parameters, Qwen3-VL's classes, NF4 with double quantization, LoRA r=32, every layer recomputed)
and the same examples for all, of 40 and of 350 tokens on the average. All take turns, round by round; medians of
the processor's seconds count. Their gradients are compared as well, on the same model computing in fp32, where
rounding hides no difference; TRL keeps a quantized model's adapter in bf16, so its own are off by that.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3VLConfig
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.planner import ROW_TOKENS_CPU
from app.schemas import TrainingConfig
from benchmarks.contestants import TRL, Clock, HuggingFace, Ours, relative
from benchmarks.table import Row, arguments, machine, report, row
from worker.trainer.images import Example, Vision
from worker.trainer.model import Trainee, add_lora, checkpoint_layers, load_base
from worker.trainer.tiny import tiny_config, tiny_weights, token_ids, write_settings

CPU = torch.device("cpu")
STEP = 8
# Mean tokens of an example -> ratio to Hugging Face's Trainer; rounds and steps of a round.
MARKS, ROUNDS = {40: 2.5, 350: 1.2}, {40: (5, 3), 350: (3, 1)}
# Lengths of a step as they come: some are half as long as the mean, some twice.
SPREAD = (0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.35, 1.7)
TARGETS = 0.3
# Layers, hidden size, heads of 32.
SIZE, SHRUNK = (6, 256, 8), (2, 64, 2)


class Contestant(Protocol):
    clock: Clock

    def steps(self, count: int) -> None: ...


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        report(measure(Path(folder), given.shrink), given.json)


def measure(folder: Path, shrink: bool) -> list[Row]:
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    model = build_model(folder / "model", *(SHRUNK if shrink else SIZE))
    rows = [machine()]
    for mean in (6,) if shrink else tuple(MARKS):
        seconds = race(contestants(model, make_step(mean), folder), *ROUNDS.get(mean, (1, 1)))
        rows += rows_of(mean, seconds, compare(contestants(model, make_step(mean), folder, precise=True)))
    return rows


def contestants(model: Path, examples: list[Example], folder: Path, precise: bool = False) -> dict[str, Contestant]:
    """Each with a model of its own, the same weights in all of them."""
    tokenizer, vision = model / "tokenizer.json", Vision(model)

    def trl(**more: Any) -> TRL:
        return TRL(make_trainee(model, precise), examples, folder, tokenizer, **more)

    return {
        "ours": Ours(make_trainee(model, precise), examples, vision, ROW_TOKENS_CPU),
        "HF Trainer, 1 x 8": HuggingFace(make_trainee(model, precise), examples, folder),
        "TRL, 1 x 8": trl(),
        "TRL, 8 padded": trl(batch=STEP),
        "TRL, 8 padding-free": trl(batch=STEP, padding_free=True),
    }


def race(found: dict[str, Contestant], rounds: int, steps: int) -> dict[str, float]:
    """Name -> median seconds of a step. The first round warms up."""
    for one in found.values():
        one.steps(1)
    for _ in range(rounds):
        for one in found.values():
            one.steps(steps)
    return {name: median(one.clock.seconds[1:]) for name, one in found.items()}


def compare(found: dict[str, Contestant]) -> dict[str, float]:
    """Name -> how far the gradient of its first step is from the Trainer's."""
    for one in found.values():
        one.steps(1)
    wanted = found["HF Trainer, 1 x 8"].clock.gradient
    return {name: relative(one.clock.gradient, wanted) for name, one in found.items()}


def rows_of(mean: int, seconds: dict[str, float], off: dict[str, float]) -> list[Row]:
    rate = {name: STEP / one for name, one in seconds.items()}
    best = max((name for name in rate if name.startswith("TRL")), key=lambda name: rate[name])
    about = f"{mean} tokens:"
    rows = [
        row(f"{about} ours; peer: {peer}", rate["ours"], "examples/s", mark=mark, peer=rate[peer])
        for peer, mark in (("HF Trainer, 1 x 8", MARKS.get(mean)), (best, 1.0))
    ]
    rows += [row(f"{about} {name}", one, "s/step", "lower") for name, one in seconds.items()]
    return rows + [
        row(f"{about} gradient of {name} in fp32, off the Trainer's by", one, "relative", "lower")
        for name, one in off.items()
    ]


def make_step(mean: int) -> list[Example]:
    """Every example has the same number of targets, so that a mean over targets is one over examples."""
    generator = torch.Generator().manual_seed(mean)
    lengths = [max(3, round(mean * one)) for one in SPREAD]
    count = max(1, round(mean * TARGETS))
    return [make_example(line, length, min(count, min(lengths) - 1), generator) for line, length in enumerate(lengths)]


def make_example(line: int, num_tokens: int, num_targets: int, generator: torch.Generator) -> Example:
    targets = torch.zeros(num_tokens, dtype=torch.bool)
    targets[num_tokens - num_targets :] = True
    return Example(line, torch.randint(10, 500, (num_tokens,), generator=generator, dtype=torch.int32), targets)


def make_trainee(model: Path, precise: bool) -> Trainee:
    """The adapter's second matrices are drawn as well: from zeros, half of all gradients would be zero."""
    torch.manual_seed(1)
    trainee = add_lora(load_base(model, True, CPU), TrainingConfig(lora_dropout=0.0), CPU)
    checkpoint_layers(trainee.base, "auto")
    with torch.no_grad():
        for name, one in trainee.parameters.items():
            if "lora_B" in name:
                one.normal_(std=0.02)
    if precise:
        compute_in_fp32(trainee.base)
    return trainee


def compute_in_fp32(base: nn.Module) -> None:
    """The weights stay in 4 bits; what is computed with them, and all the others, are fp32."""
    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = torch.float32, True
            continue
        for one in module.parameters(recurse=False):
            one.data = one.data.float()


def build_model(folder: Path, layers: int, hidden: int, heads: int) -> Path:
    """The built-in model made larger: same tokenizer, same classes, random weights."""
    write_tiny_tokenizer(folder)
    values = tiny_config(token_ids(folder)).to_dict()
    values["text_config"] |= {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": 32,
    }
    values["text_config"]["rope_parameters"]["mrope_section"] = [8, 4, 4]
    values["vision_config"]["out_hidden_size"] = hidden
    config = Qwen3VLConfig(**values)
    config.save_pretrained(folder)
    save_file(tiny_weights(config), folder / "model.safetensors", metadata={"format": "pt"})
    write_settings(folder, config)
    return folder


if __name__ == "__main__":
    main()
