"""Memory and work of a training step, from the base model's geometry and without torch.

Bytes, held against a dry-run of the real 8B geometry. N text weights, V vocabulary, H hidden size, L layers, T tokens
of a row, P trained parameters:

    weights      N x 0.516 in NF4 (half a byte, a byte a block of 64, four bytes 256 blocks) or N x 2, both tables 2VH
    adapter      P x 8: fp32 weights and gradients         optimizer  P x 2 in 8 bits, P x 8 in fp32
    activations  2TH for each recomputed layer, all that is kept for each other one, and the layer at work
    head         logits of one chunk of targets, and of a block of it in fp32, where that is more than the layer at work
    images       what the vision tower needs while it looks, and its weights are on the card only then
"""

import math
from dataclasses import dataclass

from app.geometry import Geometry

NF4_BYTES, HALF_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256), 2.0
# As the trainer's loss has them: bytes of a chunk's logits in bf16, and rows of it that stand in fp32, twice at most.
CHUNK_BYTES, BLOCK = 256 << 20, 64
# On a CPU the products of the adapter are made in fp32, dropout's masks too.
CPU_FACTOR = 2.0
# What a row costs whatever its length, in tokens: weights are unpacked and thousands of kernels started.
ROW_OVERHEAD_TOKENS = 256
# bf16 matrix rates of cards, FLOP/s, from their makers or measured, and the share of them that long rows reach.
BF16_RATES = {"3090": 71e12, "4090": 165e12, "A100": 312e12, "H100": 790e12, "H200": 790e12}
RATE_SHARE = 0.65
# However small the products are: some 400 kernels a layer and row, started one after the other.
LAYER_FLOOR_S = 0.003


@dataclass(frozen=True)
class Demand:
    """What a job asks of a card. `free_layers` are not recomputed; `patch_share` is image patches a token."""

    use_qlora: bool = True
    rank: int = 32
    has_dropout: bool = True
    row_tokens: int = 2048
    free_layers: int = 0
    target_share: float = 0.4
    patch_share: float = 0.0
    on_gpu: bool = True
    vision_bytes: float | None = None  # of a parameter of the vision tower, where it is not the rule below

    @property
    def bytes_of_vision(self) -> float:
        """bf16 where an example has an image; else the tower waits outside the card."""
        if self.vision_bytes is not None:
            return self.vision_bytes
        return HALF_BYTES if self.patch_share or not self.on_gpu else 0.0


@dataclass(frozen=True)
class Memory:
    """Bytes by part; their sum is the peak of a step."""

    weights: int
    adapter: int
    optimizer: int
    activations: int
    head: int
    images: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.optimizer + self.activations + self.head + self.images

    def as_json(self) -> dict[str, int]:
        return {**vars(self), "total": self.total}


def memory(geometry: Geometry, demand: Demand) -> Memory:
    trained = geometry.lora_params(demand.rank)
    activations, at_work = _activations(geometry, demand)
    return Memory(
        weights=_weights(geometry, demand),
        adapter=trained * 8,
        optimizer=trained * (2 if demand.on_gpu else 8),
        activations=round(activations),
        head=round(max(0.0, _head(geometry, demand) - at_work)),
        images=round(_images(geometry, demand)),
    )


def _weights(geometry: Geometry, demand: Demand) -> int:
    linear = geometry.linear_params * (NF4_BYTES if demand.use_qlora else HALF_BYTES)
    other = (geometry.norm_params + geometry.embedding_params) * HALF_BYTES
    return round(linear + other + geometry.vision_params * demand.bytes_of_vision)


def kept_by_layer(geometry: Geometry, has_dropout: bool) -> int:
    """Bytes a token that a layer keeps for its backward pass."""
    hidden, query, inner = geometry.hidden, geometry.query, geometry.intermediate
    # Norms in fp32 with their outputs, attention's inputs and output, gate, up and what becomes of them.
    kept = 14 * hidden + 8 * (query + geometry.key_value) + 8 * inner
    # Each of the seven linears drops out for itself: a mask and a copy instead of an input that is shared.
    return kept + (11 * hidden + 3 * query + inner if has_dropout else 0)


def _activations(geometry: Geometry, demand: Demand) -> tuple[float, float]:
    """(all of them at the peak, the part of it that is not yet there when the loss is made)"""
    kept = kept_by_layer(geometry, demand.has_dropout)
    factor = demand.row_tokens * (1.0 if demand.on_gpu else CPU_FACTOR)
    gradients = 6 * geometry.intermediate
    recomputed = geometry.layers - demand.free_layers
    until_loss = 2 * geometry.hidden * recomputed + kept * demand.free_layers
    if demand.free_layers == 0:
        return factor * (until_loss + kept + gradients), factor * (kept + gradients)
    # The free layers come last and are gone, one by one, before a recomputed one is made again.
    later = 2 * geometry.hidden * recomputed + (kept + gradients if recomputed else 0)
    peak = max(until_loss + gradients, later)
    return factor * peak, factor * (peak - until_loss)


def _head(geometry: Geometry, demand: Demand) -> float:
    targets = math.ceil(demand.row_tokens * demand.target_share)
    chunk = min(CHUNK_BYTES, targets * geometry.vocab * 2)
    return chunk + min(BLOCK, targets) * geometry.vocab * 8 + targets * geometry.hidden * 4


def _images(geometry: Geometry, demand: Demand) -> float:
    """Pixels in fp32, one block of the frozen tower at work, and the embeddings of four levels."""
    pixels = 3 * 2 * 16 * 16 * 4
    block = 2 * (8 * geometry.vision_hidden + 2 * geometry.vision_intermediate)
    return demand.row_tokens * demand.patch_share * (pixels + block + 2 * geometry.hidden)


def flops_per_token(geometry: Geometry, demand: Demand) -> float:
    """Forward, recomputation and the gradient of the inputs; the adapter; the head at targets alone."""
    passes = 3 - demand.free_layers / geometry.layers
    head = 4 * geometry.vocab * geometry.hidden * demand.target_share
    return 2 * geometry.linear_params * passes + 6 * geometry.lora_params(demand.rank) + head


def flops_of_step(geometry: Geometry, demand: Demand, num_tokens: float) -> float:
    """Of a step of so many tokens, with what each of its rows costs by itself."""
    rows = rows_of_step(demand, num_tokens)
    return (num_tokens + rows * ROW_OVERHEAD_TOKENS) * flops_per_token(geometry, demand)


def rows_of_step(demand: Demand, num_tokens: float) -> float:
    """On the average, when the last row of a step is half full."""
    return num_tokens / demand.row_tokens + 0.5


def tokens_per_second(geometry: Geometry, demand: Demand, step_tokens: float, gpu: str | None) -> float | None:
    """A rule, not a measurement; None on a CPU and on a card whose rate is not known."""
    rate = next((rate for name, rate in BF16_RATES.items() if name in (gpu or "")), None)
    if rate is None:
        return None
    multiplying = flops_of_step(geometry, demand, step_tokens) / (rate * RATE_SHARE)
    starting = rows_of_step(demand, step_tokens) * geometry.layers * LAYER_FLOOR_S
    return step_tokens / max(multiplying, starting)
