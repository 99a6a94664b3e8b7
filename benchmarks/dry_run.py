"""A base model's real geometry without its bytes: every allocation of a training step is counted, none is made.

The model is built on the meta device, then given fake tensors that a dispatch mode counts. A quantized linear holds
what bitsandbytes holds and makes the same temporary weight; all else (LoRA, recomputation, attention, loss) is the
trainer's own code, with the kernels of a card put in where a CPU would take more. What a CUDA context, workspaces of
cuBLAS and fragmentation add is not counted.
"""

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from app.schemas import TrainingConfig
from worker.trainer.attention import PACKED, Segments, use_attention
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import LORA_TARGETS, Trainee, add_lora, checkpoint_layers
from worker.trainer.packing import Row

GEOMETRY_8B: dict[str, Any] = {
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "text_config": {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5_000_000,
            "mrope_interleaved": True,
            "mrope_section": [24, 20, 20],
        },
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
BLOCK, SUPER_BLOCK = 64, 256
OPTIMIZER_BLOCK = 256
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One row of packed examples, as one step sees it."""

    lengths: tuple[int, ...]
    target_share: float = 0.4
    free_layers: int = 0
    rank: int = 32
    use_qlora: bool = True
    dropout: float = 0.05

    @property
    def row_tokens(self) -> int:
        return sum(self.lengths)


def peak_of_step(geometry: dict[str, Any], case: Case) -> int:
    """The most bytes at once over forward, loss and backward of the row, gradients of an earlier row included."""
    trainee = build(geometry, case)
    counted = Allocations()
    with FakeTensorMode(allow_non_fake_inputs=True), counted, as_on_a_card():
        materialize(trainee.peft)
        states = [optimizer_state(one) for one in trainee.parameters.values()]
        for one in trainee.parameters.values():
            one.grad = torch.empty_like(one)
        row = row_of(case)
        trainee.peft.train()
        counted.peak = counted.now
        loss = target_cross_entropy(trainee.hidden(row), trainee.head, row.labels, row.scale)
        loss.backward()  # type: ignore[no-untyped-call]
        del states
    return counted.peak


class DryTrainee(Trainee):
    def precision(self) -> torch.autocast:
        """As on a card, where the adapter's products run in bf16."""
        return torch.autocast("cpu", dtype=torch.bfloat16)


def build(geometry: dict[str, Any], case: Case) -> Trainee:
    """The model of a text job on the meta device: its vision tower is not on the card."""
    config = TrainingConfig(lora_r=case.rank, lora_dropout=case.dropout, use_qlora=case.use_qlora)
    with torch.device("meta"):
        described = Qwen3VLConfig(**geometry)
        described._attn_implementation = "sdpa"
        base = Qwen3VLForConditionalGeneration(described).to(torch.bfloat16)
        base.requires_grad_(False)
        use_attention(base, PACKED)
        if case.use_qlora:
            quantize(base)
        trainee = add_lora(base, config, CPU)
    checkpoint_layers(base, len(base.model.language_model.layers) - case.free_layers)
    base.model.visual = None
    return DryTrainee(trainee.peft, base, CPU)


def quantize(base: Qwen3VLForConditionalGeneration) -> None:
    for name, module in list(base.named_modules()):
        if re.match(LORA_TARGETS, name):
            base.set_submodule(name, DryLinear4bit(module))
    base.is_loaded_in_4bit = base.is_quantized = True  # peft asks the model, not its layers


def row_of(case: Case) -> Row:
    num_targets = round(case.row_tokens * case.target_share)
    positions = torch.cat([torch.arange(length) for length in case.lengths])
    return Row(
        input_ids=torch.zeros(1, case.row_tokens, dtype=torch.long),
        position_ids=positions[None],
        segments=Segments(case.lengths, torch.zeros(len(case.lengths) + 1, dtype=torch.int32)),
        predictors=torch.zeros(num_targets, dtype=torch.long),
        labels=torch.zeros(num_targets, dtype=torch.long),
        scale=torch.ones(num_targets, dtype=torch.float64),
        pixel_values=None,
        image_grid_thw=None,
    )


def optimizer_state(parameter: Tensor) -> list[Tensor]:
    """Two moments in 8 bits, with the largest value of each block."""
    size = parameter.numel()
    blocks = -(-size // OPTIMIZER_BLOCK)
    return [part for _ in range(2) for part in (torch.empty(size, dtype=torch.uint8), torch.empty(blocks))]


@contextmanager
def as_on_a_card() -> Iterator[None]:
    """Dropout in one kernel with a mask of one byte, and libraries that ask for CUDA's autocast hear of ours."""
    enabled = torch.is_autocast_enabled

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return torch.native_dropout(x, p, True)[0] if training and p else x

    with (
        patch("torch.nn.functional.dropout", dropout),
        patch("torch.is_autocast_enabled", lambda device_type="cpu": enabled("cpu")),
    ):
        yield


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the bytes of every storage an operation makes, and takes them away when it dies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self.count(one)
        return made

    def count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or size == 0:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


class _QuantizedProduct(torch.autograd.Function):
    """What bitsandbytes does on a GPU: the weight is made in bf16 for the product, and anew for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, state: QuantState) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.state = state
        product: Tensor = x @ dequantize_4bit(packed, state).to(x.dtype).T
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (packed,) = ctx.saved_tensors
        return grads[0] @ dequantize_4bit(packed, ctx.state).to(grads[0].dtype), None, None


class DryLinear4bit(bnb.nn.Linear4bit):
    """Half a byte a parameter, a byte a block of 64, four bytes a block of 64 x 256."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, None
        self.compute_dtype = torch.bfloat16
        count = linear.weight.numel()
        blocks = -(-count // BLOCK)
        self.weight = nn.Parameter(torch.empty(count // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.register_buffer("absmax", torch.empty(blocks, dtype=torch.uint8))
        self.register_buffer("absmax_of_absmax", torch.empty(-(-blocks // SUPER_BLOCK)))
        self.name_settings()

    def name_settings(self) -> None:
        # peft copies them from the weight.
        for name, value in {"compress_statistics": True, "quant_type": "nf4", "quant_storage": torch.uint8}.items():
            setattr(self.weight, name, value)

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = _QuantizedProduct.apply(x.to(self.compute_dtype), self.weight, self._state())  # type: ignore[no-untyped-call]
        return product

    def _state(self) -> QuantState:
        nested = QuantState(
            absmax=self.absmax_of_absmax, code=torch.empty(256), blocksize=SUPER_BLOCK, dtype=torch.float32
        )
        shape = torch.Size((self.out_features, self.in_features))
        return QuantState(
            absmax=self.absmax, shape=shape, code=torch.empty(16), blocksize=BLOCK, quant_type="nf4",
            dtype=torch.bfloat16, offset=torch.empty(()), state2=nested,
        )  # fmt: skip


def materialize(model: nn.Module) -> None:
    """Replaces every tensor of a model built on the meta device by one that the surrounding modes count."""
    done: dict[int, Any] = {}
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None:
                if id(one) not in done:
                    done[id(one)] = nn.Parameter(torch.empty(one.shape, dtype=one.dtype), one.requires_grad), one
                module._parameters[name] = done[id(one)][0]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
