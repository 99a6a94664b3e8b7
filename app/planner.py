"""Which rows and how many recomputed layers: chosen from the memory that is free, before anything is loaded.

The configuration's own numbers stand; only an "auto" is chosen. Neither changes what a step computes, so the choice
may differ from one attempt to the next. What a configuration that does not fit would have to give up is found here too.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.estimate import Demand, Memory, flops_of_step, memory
from app.geometry import Geometry
from app.schemas import TrainingConfig

# What blocks of torch's allocator leave unused, and what kernels take for themselves.
MARGIN = 0.06
# A row need not be longer than this to keep a card busy, and its attention begins to count.
LONGEST_ROW = 16_384
ROW_GRAIN = 256
# Attention segment by segment costs no more in long rows: on one CPU thread, 8 examples of 350 tokens took 6.4 s in one
# row and 8.0 s in rows of up to 1,024 (7 M parameters in NF4, every layer recomputed).
ROW_TOKENS_CPU = 4096
LEAST_LENGTH = 256


@dataclass(frozen=True)
class Lengths:
    """Tokens of the examples as they are trained: an example is never split, so the longest needs a row of its own."""

    longest: int
    mean: float
    target_share: float = 0.4
    patch_share: float = 0.0  # image patches a token, in the example that has most

    def cut(self, max_length: int) -> "Lengths":
        return replace(self, longest=min(self.longest, max_length), mean=min(self.mean, max_length))


@dataclass(frozen=True)
class MemoryPlan:
    """`usable` bytes were there to plan with, None where nobody knows."""

    demand: Demand
    row_tokens: int
    checkpointed_layers: int
    memory: Memory
    usable: int | None
    bf16_fits: bool

    @property
    def fits(self) -> bool | None:
        return None if self.usable is None else self.memory.total <= self.usable


def usable(available: int) -> int:
    """What a plan may count on of the memory that is free."""
    return round(available * (1 - MARGIN))


def make_plan(
    config: TrainingConfig, lengths: Lengths, geometry: Geometry, available: int | None, on_gpu: bool
) -> MemoryPlan:
    """The least work that fits into `available` bytes; the least memory where nothing fits.

    Where nobody knows what is free, a card is taken for a small one, and a machine for a large one.
    """
    room = None if available is None else usable(available)
    candidates = list(_candidates(config, lengths, geometry, on_gpu))
    needed = {one: memory(geometry, one) for one in candidates}
    smallest = min(candidates, key=lambda one: needed[one].total)
    limit = room if room is not None or on_gpu else sys.maxsize
    step_tokens = lengths.mean * config.step_size
    fitting = (one for one in candidates if limit is not None and needed[one].total <= limit)
    chosen = min(fitting, key=lambda one: _cost(geometry, one, step_tokens), default=smallest)
    plain = memory(geometry, replace(chosen, use_qlora=False, free_layers=0))
    return MemoryPlan(
        demand=chosen,
        row_tokens=chosen.row_tokens,
        checkpointed_layers=geometry.layers - chosen.free_layers,
        memory=needed[chosen],
        usable=room,
        bf16_fits=config.use_qlora and room is not None and plain.total <= room,
    )


def _cost(geometry: Geometry, demand: Demand, step_tokens: float) -> tuple[float, int]:
    return flops_of_step(geometry, demand, step_tokens), demand.row_tokens


def _candidates(config: TrainingConfig, lengths: Lengths, geometry: Geometry, on_gpu: bool) -> Iterator[Demand]:
    for row_tokens in row_choices(config, lengths, on_gpu):
        for free in free_layers(config, geometry, on_gpu):
            yield Demand(
                use_qlora=config.use_qlora,
                rank=config.lora_r,
                has_dropout=config.lora_dropout > 0,
                row_tokens=row_tokens,
                free_layers=free,
                target_share=lengths.target_share,
                patch_share=lengths.patch_share,
                on_gpu=on_gpu,
            )


def free_layers(config: TrainingConfig, geometry: Geometry, on_gpu: bool) -> range:
    """How many layers may go without being recomputed; on a CPU none, where memory is not what one waits for."""
    if not isinstance(config.checkpointed_layers, str):
        free = max(0, geometry.layers - config.checkpointed_layers)
        return range(free, free + 1)
    return range(geometry.layers + 1) if on_gpu else range(1)


def row_choices(config: TrainingConfig, lengths: Lengths, on_gpu: bool) -> list[int]:
    """Budgets worth a try: from the longest example alone to about the whole step in one row."""
    if not isinstance(config.row_tokens, str):
        return [max(config.row_tokens, lengths.longest)]
    if not on_gpu:
        return sorted({max(ROW_TOKENS_CPU, lengths.longest), lengths.longest})
    # Steps differ in length, but hardly one is twice the mean.
    most = min(lengths.longest * config.step_size, 2 * lengths.mean * config.step_size, LONGEST_ROW)
    parts = {math.ceil(most / count / ROW_GRAIN) * ROW_GRAIN for count in (1, 2, 3, 4, 6, 8)}
    return sorted({max(one, lengths.longest) for one in parts} | {lengths.longest})


def would_fit(
    config: TrainingConfig, lengths: Lengths, geometry: Geometry, available: int, on_gpu: bool
) -> list[dict[str, Any]]:
    """Changes of the configuration, each of which makes it fit: {"config": the keys to change, "total": bytes}."""
    found: list[dict[str, Any]] = []
    for changes in _changes(config, lengths):
        changed = make_plan(config.model_copy(update=changes), _after(lengths, changes), geometry, available, on_gpu)
        if changed.fits:
            found.append({"config": changes, "total": changed.memory.total})
    # Whoever gives up one thing need not give up two, nor more of it than is needed.
    return [one for one in found if not any(_is_less(other["config"], one["config"]) for other in found)]


def _after(lengths: Lengths, changes: dict[str, Any]) -> Lengths:
    return lengths.cut(changes["max_length"]) if "max_length" in changes else lengths


def _changes(config: TrainingConfig, lengths: Lengths) -> Iterator[dict[str, Any]]:
    """From the gentlest on: leave the choice to the plan, 4 bits, a lower rank, shorter examples; then all at once."""
    keys = ("row_tokens", "checkpointed_layers")
    auto: dict[str, Any] = {key: "auto" for key in keys if getattr(config, key) != "auto"}
    four_bits = [] if config.use_qlora else [{"use_qlora": True}]
    ranks = [{"lora_r": rank} for rank in (64, 32, 16, 8) if rank < config.lora_r]
    longest = min(lengths.longest, config.max_length)
    cuts = [{"max_length": length} for length in (8192, 4096, 2048, 1024, 512, LEAST_LENGTH) if length < longest]
    alone = [*([auto] if auto else []), *four_bits, *ranks, *cuts]
    yield from alone
    least = auto | (four_bits[0] if four_bits else {})
    for cut in cuts:
        for rank in ranks[-1:] or [{}]:
            if len(least | rank | cut) > 1:
                yield least | rank | cut


def _is_less(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether `one` gives up less than `other`: the same keys or fewer, and no number lower."""
    if one == other or not one.keys() <= other.keys():
        return False
    numbers = [key for key in one if isinstance(one[key], int) and not isinstance(one[key], bool)]
    return all(one[key] >= other[key] for key in numbers)
