"""Attention over packed rows: each example sees itself, and no T x T mask says so.

    row        [a a a a | b b | c c c]     text positions 0 1 2 3 0 1 0 1 2
    segments    4 2 3                      found once a row, where the text positions do not go on by one
    CUDA        one `varlen_attn` over all segments
    elsewhere   causal attention segment by segment; with its scores written out where they are small

Only the text model uses it. What is not a packed row (a batch of prompts, one more token behind a cache) goes to
transformers' own SDPA, with the mask made for that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED, DENSE = "packed", "sdpa"
# Heads x T x T: up to there a segment's scores may stand in memory, 64 MB in fp32.
MOST_SCORES = 1 << 24
# The kernel shares key heads among groups of query heads by itself; from torch 2.12 on it wants to be told.
_ATTEND: Callable[..., Any] = varlen_attn
if "enable_gqa" in signature(varlen_attn).parameters:
    _ATTEND = partial(varlen_attn, enable_gqa=True)


@dataclass(frozen=True)
class Segments:
    """Where the examples of a row begin and end."""

    lengths: tuple[int, ...]
    bounds: Tensor  # [segments + 1] int32: 0, then the end of each

    def to(self, device: torch.device) -> "Segments":
        return Segments(self.lengths, self.bounds.to(device))


def find_segments(position_ids: Tensor) -> Segments:
    """Segments of position ids [1, T], or of [4, 1, T] whose first row are text positions.

    Three rows alone (time, height, width) are refused: they do not say where an example starts.
    """
    if position_ids.ndim == 3 and position_ids.shape[0] != 4:
        raise ValueError("position ids of a packed row need the text positions in front of time, height and width")
    text = position_ids.reshape(-1, position_ids.shape[-1])[0].cpu()
    starts = (text.diff() != 1).nonzero().squeeze(1) + 1
    bounds = torch.cat([starts.new_zeros(1), starts, starts.new_tensor([len(text)])]).int()
    return Segments(tuple(bounds.diff().tolist()), bounds.to(position_ids.device))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Segments | None = None,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Query [1, heads, T, D], key and value [1, key heads, T, D] -> [1, T, heads, D].

    A row that comes without its segments has them found from its text positions, layer by layer.
    """
    is_row = attention_mask is None and query.shape[0] == 1 and query.shape[2] == key.shape[2]
    if is_row and segments is None and position_ids is not None:
        segments = find_segments(position_ids)
    if not is_row or segments is None:
        made: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return made
    if has_kernel(query, dropout):
        return _in_one_go(query, key, value, segments, scaling), None
    return _one_by_one(query, key, value, segments, dropout, scaling), None


def has_kernel(query: Tensor, dropout: float = 0.0) -> bool:
    """Whether `varlen_attn` takes such a query: on CUDA, in half precision, without dropout on the weights."""
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and dropout == 0


def _in_one_go(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    longest = max(segments.lengths)
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    bounds = segments.bounds
    # A window of everything before and nothing after is how it is told to be causal.
    made: Tensor = _ATTEND(query, key, value, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0))
    return made[None]


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, dropout: float, scaling: float | None
) -> Tensor:
    lengths = list(segments.lengths)
    split = (torch.split(one, lengths, dim=2) for one in (query, key, value))
    parts = [_attend(q, k, v, dropout, scaling) for q, k, v in zip(*split, strict=True)]
    return torch.cat(parts, dim=2).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None) -> Tensor:
    num_scores = query.shape[1] * query.shape[2] ** 2
    if query.is_cuda or dropout or num_scores > MOST_SCORES:
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
    return _with_scores(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)


def _with_scores(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """By the textbook, in fp32 at least: on a CPU torch's fused kernel takes up to four times as long to go back."""
    shape, (_, key_heads, num_tokens, _) = query.shape, key.shape
    precise = torch.promote_types(query.dtype, torch.float32)
    # The query heads that share a key head, one below the other.
    grouped = query.to(precise).reshape(1, key_heads, -1, shape[-1])
    scores = (grouped @ key.to(precise).transpose(-1, -2) * scaling).view(1, key_heads, -1, num_tokens, num_tokens)
    later = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=query.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1).view(1, key_heads, -1, num_tokens)
    return (weights @ value.to(precise)).view(shape).to(query.dtype)


def packed_mask(*, batch_size: int, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """No mask for a row, whose segments say the same; transformers' own for a padded batch."""
    if batch_size == 1 and attention_mask is None:
        return None
    made: Tensor | None = sdpa_mask(batch_size=batch_size, attention_mask=attention_mask, **kwargs)
    return made


def use_attention(base: PreTrainedModel, name: str) -> None:
    """`PACKED` or `DENSE` for the text model; the vision tower keeps its own."""
    base.set_attn_implementation({"text_config": name})


def attention_of(base: PreTrainedModel) -> str:
    name: str = base.config.text_config._attn_implementation
    return name


@contextmanager
def attention(base: PreTrainedModel, name: str) -> Iterator[None]:
    """That attention for a while. A backward pass with recomputed layers has to be inside as well."""
    before = attention_of(base)
    use_attention(base, name)
    try:
        yield
    finally:
        use_attention(base, before)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)
