"""Peak memory and time of the loss over a vocabulary of 151,936: ours, all logits, and what others have for it.

    python benchmarks/head_memory.py [--json FILE]

Forward and backward of one row: 2,048 tokens, 35 % of them targets, hidden size 512, one thread. Each contestant works
in a process of its own, in turn with the others; the peak is the resident set's above what it was before, the time is
the processor's. The losses and gradients are compared, so that nobody is fast by computing something else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear_cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.table import Row, arguments, machine, report, row
from worker.trainer.losses import target_cross_entropy

PEAK_MARK = 1 / 8
TARGET_SHARE = 0.35
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Vocabulary, tokens, hidden size.
SIZE, SHRUNK = (151_936, 2048, 512), (1000, 64, 32)


def ours(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, at_N: Tensor) -> Tensor:
    scale = torch.full((len(at_N),), 1 / len(at_N), dtype=torch.float64)
    return target_cross_entropy(hidden_NH[at_N], head_VH, labels_N[at_N], scale)


def full_logits(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, at_N: Tensor) -> Tensor:
    """transformers' way: logits of every position, in fp32."""
    masked = torch.full_like(labels_N, -100)
    masked[at_N] = labels_N[at_N]
    return cross_entropy((hidden_NH @ head_VH.T).float(), masked)


def supervised_only(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, at_N: Tensor) -> Tensor:
    return cross_entropy((hidden_NH[at_N] @ head_VH.T).float(), labels_N[at_N])


def trl(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, at_N: Tensor) -> Tensor:
    """Its chunked log-probabilities, given the targets alone, as it does where Triton is."""
    theirs = import_module("trl.trainer.utils")  # seconds that no other contestant should wait for
    chunk, outputs = theirs._CHUNKED_LOGPROB_CHUNK_SIZE, ("log_probs",)
    found = theirs._ChunkedLogProbFunction.apply(
        hidden_NH[at_N], head_VH, None, labels_N[at_N], 1.0, chunk, None, 1.0, outputs
    )
    loss: Tensor = -found[0].sum() / len(at_N)
    return loss


def of_torch(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, at_N: Tensor) -> Tensor:
    return linear_cross_entropy(hidden_NH[at_N], head_VH, labels_N[at_N])


CONTESTANTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "ours": ours,
    "full logits": full_logits,
    "supervised only": supervised_only,
    "TRL": trl,
    "torch linear_cross_entropy": of_torch,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=2, metavar=("NAME", "DTYPE"), help=argparse.SUPPRESS)
    given = arguments(__doc__, parser)
    if given.one:
        name, dtype = given.one
        print(json.dumps(measure_here(name, dtype, SIZE)))
    else:
        report(measure(given.shrink), given.json)


def measure(shrink: bool) -> list[Row]:
    rows = [machine()]
    for dtype, rounds in (("bf16", 1 if shrink else 2), ("fp32", 1)):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
        for _ in range(rounds):
            for name, made in found.items():
                made.append(measure_here(name, dtype, SHRUNK) if shrink else in_a_process(name, dtype))
        rows += rows_of(dtype, {name: middle(made) for name, made in found.items()})
    return rows


def rows_of(dtype: str, found: dict[str, dict[str, float]]) -> list[Row]:
    mine, full = found["ours"], found["full logits"]
    others = {name: one for name, one in found.items() if name != "ours"}
    best = min(others, key=lambda name: others[name]["seconds"])
    rows = [
        row(f"{dtype}: peak; peer: full logits", mine["peak_mb"], "MB", "lower", PEAK_MARK, full["peak_mb"]),
        row(f"{dtype}: time; peer: {best}", mine["seconds"], "s", "lower", 1.0, others[best]["seconds"]),
    ]
    for name, one in found.items():
        off = abs(one["loss"] - full["loss"]), abs(one["gradient"] - full["gradient"]) / full["gradient"]
        rows += [
            row(f"{dtype}: peak of {name}", one["peak_mb"], "MB", "lower"),
            row(f"{dtype}: time of {name}", one["seconds"], "s", "lower"),
            row(f"{dtype}: loss of {name}, off full logits by", off[0], "nats", "lower"),
            row(f"{dtype}: gradient of {name}, its norm off by", off[1], "relative", "lower"),
        ]
    return rows


def middle(made: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(one[key] for one in made) for key in made[0]}


def in_a_process(name: str, dtype: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.head_memory", "--one", name, dtype]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    made: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return made


def measure_here(name: str, dtype: str, size: tuple[int, int, int]) -> dict[str, float]:
    torch.set_num_threads(1)
    loss_and_gradient(name, dtype, SHRUNK)  # libraries set themselves up at their first call
    inputs = make_inputs(dtype, size)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the high-water mark starts anew from here
    started = time.process_time()
    loss = CONTESTANTS[name](*inputs)
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.process_time() - started
    peak = resident("VmHWM") - before
    gradient = inputs[0].grad
    assert gradient is not None
    return {
        "seconds": seconds,
        "peak_mb": peak / 1e6,
        "loss": float(loss.detach()),
        "gradient": float(gradient.double().norm()),
    }


def loss_and_gradient(name: str, dtype: str, size: tuple[int, int, int]) -> tuple[float, Tensor]:
    inputs = make_inputs(dtype, size)
    loss = CONTESTANTS[name](*inputs)
    loss.backward()  # type: ignore[no-untyped-call]
    assert inputs[0].grad is not None
    return float(loss.detach()), inputs[0].grad


def make_inputs(dtype: str, size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    vocabulary, tokens, hidden_size = size
    generator = torch.Generator().manual_seed(1)
    hidden_NH = torch.randn(tokens, hidden_size, generator=generator).to(DTYPES[dtype]).requires_grad_()
    head_VH = (torch.randn(vocabulary, hidden_size, generator=generator) * 0.02).to(DTYPES[dtype])
    labels_N = torch.randint(vocabulary, (tokens,), generator=generator)
    at_N = torch.randperm(tokens, generator=generator)[: int(tokens * TARGET_SHARE)].sort().values
    return hidden_NH, head_VH, labels_N, at_N


def resident(name: str) -> int:
    """Bytes, from the lines of /proc/self/status."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    main()
