"""A step of 8 examples at the real 8B geometry on a CUDA machine, with random weights and without network.

    python benchmarks/train_gpu.py [--json FILE]

Seconds a step, tokens a second, peak memory, and the share of the matrix rate that this card reaches in bf16, at
example means of 200, 350, 800 and 1,500 tokens: ours with all, half and none of the layers recomputed, in NF4 and in
bf16; the original's recipe (Hugging Face's Trainer, batch 1 x 8, SDPA, the stock preparation for k-bit training); TRL.
Less than 8 minutes: what is left when the time is over is left out, and said. So is what does not fit.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from transformers import Qwen3VLConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.estimate import Demand, flops_per_token, memory
from app.geometry import Geometry, read_geometry
from app.schemas import TrainingConfig
from benchmarks.contestants import TRL, HuggingFace, Ours
from benchmarks.device import free_memory, matrix_rate
from benchmarks.dry_run import GEOMETRY_8B
from benchmarks.random_model import random_base
from benchmarks.table import Row, arguments, machine, report, row
from benchmarks.train_cpu import SPREAD, Contestant, make_example
from worker.trainer.back_off import is_out_of_memory
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example, Vision
from worker.trainer.model import Trainee, add_lora, checkpoint_layers
from worker.trainer.self_check import check_attention
from worker.trainer.tiny import build_tiny_model

MEANS = (200, 350, 800, 1500)
SPEEDUP_MARK, SPEEDUP_AT = 4.0, 350
RATE_MARK, RATE_AT = 0.60, 1500
TARGETS = 0.4
ROW_TOKENS = 8192
# Seconds after which nothing new is begun.
BUDGET_S = 420.0
GIB = 2**30


@dataclass
class Bench:
    """What all measurements share. On a CPU the memory is not measured."""

    device: torch.device
    geometry: dict[str, Any]
    means: tuple[int, ...]
    folder: Path
    steps: int
    started: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)
    best: dict[int, float] = field(default_factory=dict)  # share of the matrix rate, ours

    @property
    def sizes(self) -> Geometry:
        found = read_geometry(Qwen3VLConfig(**self.geometry).to_dict())
        assert found is not None
        return found

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self.started > BUDGET_S


def main() -> None:
    given = arguments(__doc__)
    if not (given.shrink or torch.cuda.is_available()):
        print("Skipped: there is no CUDA device here.")
        return
    with tempfile.TemporaryDirectory() as folder:
        report(shrunk(Path(folder)) if given.shrink else measure(Path(folder)), given.json)


def measure(folder: Path) -> list[Row]:
    device = torch.device("cuda", torch.cuda.current_device())
    bench = Bench(device, GEOMETRY_8B, MEANS, folder, steps=3)
    total = torch.cuda.mem_get_info(device)[1]
    bench.rows += [machine(), row(f"device: {torch.cuda.get_device_name(device)}", total / GIB, "GiB")]
    return carry_out(bench)


def shrunk(folder: Path) -> list[Row]:
    """The same on a CPU, with the geometry of the built-in model."""
    torch.set_num_threads(1)
    model = build_tiny_model(folder / "model")
    geometry = Qwen3VLConfig.from_pretrained(model).to_dict()
    bench = Bench(torch.device("cpu"), geometry, (6,), folder, steps=1, rows=[machine()])
    return carry_out(bench)


def carry_out(bench: Bench) -> list[Row]:
    """The cells with a mark come first, lest the time be over before them."""
    rate = matrix_rate(bench.device, 8192 if bench.device.type == "cuda" else 128)
    bench.rows.append(row("matrix product in bf16", rate / 1e12, "TFLOP/s"))
    write_tiny_tokenizer(bench.folder / "tokenizer")
    layers = bench.sizes.layers
    speeds: dict[tuple[str, int], float] = {}
    nf4 = Cells(bench, "NF4", True, rate, speeds)
    nf4.prepare()
    check_packing(bench, nf4.trainee)
    for recomputed in (layers, layers // 2, 0):
        nf4.ours(recomputed)
    nf4.trl()
    nf4.original()
    compare(bench, speeds)
    nf4.drop()
    bf16 = Cells(bench, "bf16", False, rate, speeds)
    if bf16.fits():
        bf16.prepare()
        for recomputed in (layers, layers // 2, 0):
            bf16.ours(recomputed)
    for mean, share in bench.best.items():
        mark = RATE_MARK if mean == RATE_AT else None
        bench.rows.append(
            row(f"{mean} tokens, ours at its fastest: share of the matrix rate", share, "of 1", mark=mark)
        )
    return bench.rows


@dataclass
class Cells:
    """All measurements of one base model, which is made once."""

    bench: Bench
    base: str
    use_qlora: bool
    rate: float
    speeds: dict[tuple[str, int], float]
    made: list[Trainee] = field(default_factory=list)

    @property
    def trainee(self) -> Trainee:
        return self.made[0]

    def fits(self) -> bool:
        if self.bench.device.type != "cuda":
            return True
        needed = 2 * (self.bench.sizes.linear_params + 2 * self.bench.sizes.vocab * self.bench.sizes.hidden)
        free = torch.cuda.mem_get_info(self.bench.device)[0]
        if free < 1.1 * needed:
            self.bench.rows.append(row(f"{self.base}: not measured, {free / GIB:.0f} GiB are free", None, "s/step"))
        return free >= 1.1 * needed

    def prepare(self) -> None:
        base = random_base(self.bench.geometry, self.use_qlora, self.bench.device)
        self.made.append(add_lora(base, TrainingConfig(lora_dropout=0.0), self.bench.device))

    def drop(self) -> None:
        self.made.clear()
        free_memory(self.bench.device)

    def ours(self, recomputed: int) -> None:
        checkpoint_layers(self.trainee.base, recomputed)
        name = f"ours, {self.base}, {recomputed} layers recomputed"
        vision = Vision(build_tiny_model(self.bench.folder / "model"))
        for mean in self.bench.means:
            examples = make_step(mean, self.bench.sizes.vocab)
            row_tokens = max(ROW_TOKENS, *(one.num_tokens for one in examples))
            make = partial(Ours, self.trainee, examples, vision, row_tokens)
            peak = self.cell(name, mean, examples, make, recomputed)
            if peak and recomputed == self.bench.sizes.layers:
                self.against_plan(mean, examples, row_tokens, peak)

    def trl(self) -> None:
        checkpoint_layers(self.trainee.base, "auto")
        tokenizer = self.bench.folder / "tokenizer" / "tokenizer.json"
        bf16 = self.bench.device.type == "cuda"
        for mean in self.bench.means:
            examples = make_step(mean, self.bench.sizes.vocab)
            settings: dict[str, Any] = {"batch": len(examples), "padding_free": True, "bf16": bf16}
            make = partial(TRL, self.trainee, examples, self.bench.folder, tokenizer, **settings)
            self.cell("TRL, 8 padding-free", mean, examples, make, self.bench.sizes.layers)

    def original(self) -> None:
        """Last, as the preparation turns embedding, head and norms into fp32 for good."""
        prepare_model_for_kbit_training(self.trainee.base, use_gradient_checkpointing=False)
        for name, one in self.trainee.peft.named_parameters():
            if "lora_" in name:
                one.data = one.data.float()  # TRL has them in bf16
                one.requires_grad_(True)
        bf16 = self.bench.device.type == "cuda"
        for mean in self.bench.means:
            examples = make_step(mean, self.bench.sizes.vocab)
            make = partial(HuggingFace, self.trainee, examples, self.bench.folder, bf16)
            self.cell("original's recipe", mean, examples, make, self.bench.sizes.layers)

    def cell(
        self, name: str, mean: int, examples: list[Example], make: Callable[[], Contestant], recomputed: int
    ) -> int | None:
        """One cell of the table; answers its peak in bytes."""
        about = f"{mean} tokens, {name}"
        if self.bench.is_over:
            self.bench.rows.append(row(f"{about}: left out, the time is over", None, "s/step", "lower"))
            return None
        try:
            seconds, peak = timed(make(), self.bench)
        except (RuntimeError, JobFailed) as error:
            if not (isinstance(error, JobFailed) or is_out_of_memory(error)):
                raise
            self.bench.rows.append(row(f"{about}: does not fit", None, "s/step", "lower"))
            return None
        finally:
            self.trainee.peft.zero_grad(set_to_none=True)
            free_memory(self.bench.device)
        num_tokens = sum(one.num_tokens for one in examples)
        self.speeds[name, mean] = num_tokens / seconds
        demand = Demand(free_layers=self.bench.sizes.layers - recomputed, target_share=TARGETS)
        share = num_tokens * flops_per_token(self.bench.sizes, demand) / seconds / self.rate
        if name.startswith("ours"):
            self.bench.best[mean] = max(share, self.bench.best.get(mean, 0.0))
        self.bench.rows += [
            row(f"{about}: a step", seconds, "s/step", "lower"),
            row(f"{about}: speed", num_tokens / seconds, "tokens/s"),
            row(f"{about}: share of the matrix rate", share, "of 1"),
            row(f"{about}: peak", peak / GIB, "GiB", "lower"),
        ]
        return peak

    def against_plan(self, mean: int, examples: list[Example], row_tokens: int, peak: int) -> None:
        num_tokens = min(row_tokens, sum(one.num_tokens for one in examples))
        demand = Demand(
            use_qlora=self.use_qlora, has_dropout=False, row_tokens=num_tokens, target_share=TARGETS, vision_bytes=2.0
        )
        planned = memory(self.bench.sizes, demand).total
        name = f"{mean} tokens, {self.base}, all layers recomputed: peak; peer: the plan"
        self.bench.rows.append(row(name, peak / GIB, "GiB", "lower", peer=planned / GIB))


def timed(contestant: Contestant, bench: Bench) -> tuple[float, int]:
    """(median seconds of a step, peak bytes). The first step is not counted."""
    on_gpu = bench.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    contestant.steps(1 + bench.steps)
    peak = torch.cuda.max_memory_allocated(bench.device) if on_gpu else 0
    return median(contestant.clock.seconds[1:]), peak


def compare(bench: Bench, speeds: dict[tuple[str, int], float]) -> None:
    """Ours at its fastest in NF4 beside the original's recipe and TRL."""
    for mean in bench.means:
        mine = [speed for (name, at), speed in speeds.items() if name.startswith("ours") and at == mean]
        for peer in ("original's recipe", "TRL, 8 padding-free"):
            if mine and (peer, mean) in speeds:
                mark = SPEEDUP_MARK if mean == SPEEDUP_AT and peer.startswith("original") else None
                name = f"{mean} tokens: ours at its fastest; peer: {peer}"
                bench.rows.append(row(name, max(mine), "tokens/s", mark=mark, peer=speeds[peer, mean]))


def check_packing(bench: Bench, trainee: Trainee) -> None:
    vision = Vision(build_tiny_model(bench.folder / "model"))
    checkpoint_layers(trainee.base, "auto")
    agrees = check_attention(trainee, make_step(bench.means[0], bench.sizes.vocab), vision, ROW_TOKENS, _say)
    bench.rows.append(row("packed attention equals single examples", float(agrees), "yes = 1", mark=1.0))


def make_step(mean: int, vocabulary: int) -> list[Example]:
    generator = torch.Generator().manual_seed(mean)
    lengths = [max(3, round(mean * one)) for one in SPREAD]
    examples = [make_example(line, one, max(1, round(one * TARGETS)), generator) for line, one in enumerate(lengths)]
    for one in examples:
        one.ids.remainder_(min(500, vocabulary))
    return examples


def _say(text: str, level: str = "info") -> None:
    print(f"{level}: {text}")


if __name__ == "__main__":
    main()
