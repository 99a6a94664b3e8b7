"""Cross-entropy on the targets alone, in chunks, so that a [T, V] tensor never exists.

N targets, H hidden size, V vocabulary. The head is frozen, so only the hidden states need a gradient; it is made in
the forward pass while the logits of a chunk are at hand. That costs two matrix products and no recomputation.
"""

from typing import Any

import torch
from torch import Tensor

# What the logits of a chunk may take: as long a chunk as that allows, since every one reads the whole head anew.
CHUNK_BYTES = 256 << 20
# Rows of a chunk whose logits stand in fp32 at once.
BLOCK = 64
# Rows of the head that stand in fp32 at once, where products are made in fp32.
WORDS = 4096


class _TargetCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, scale_N: Tensor, chunk: int) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        grad_NH = torch.empty_like(hidden_NH) if wants_gradient else None
        # Sums in fp32 at least: a bf16 sum over thousands of targets is off in the first digit.
        precise = torch.promote_types(hidden_NH.dtype, torch.float32)
        total = torch.zeros((), dtype=precise, device=hidden_NH.device)
        for start in range(0, hidden_NH.shape[0], chunk):
            part = slice(start, start + chunk)
            scale = scale_N[part].to(precise)
            logits = _product(hidden_NH[part], head_VH)
            losses, sums = _to_odds(logits, labels_N[part], precise)
            total += (losses * scale).sum()
            if grad_NH is not None:
                # Divided by the sums only behind the product, where there are H numbers a target and not V.
                grad_NH[part] = _product_back(logits, head_VH) * (scale / sums)[:, None]
            del logits
        ctx.save_for_backward(*([] if grad_NH is None else [grad_NH]))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (grad_NH,) = ctx.saved_tensors
        return grad_NH * grads[0].to(grad_NH.dtype), None, None, None, None


def _product(hidden_NH: Tensor, head_VH: Tensor) -> Tensor:
    """Logits [N, V]."""
    if not _is_emulated(head_VH):
        return hidden_NH @ head_VH.T
    logits_NV = hidden_NH.new_empty(len(hidden_NH), len(head_VH))
    precise = hidden_NH.float()
    for start in range(0, len(head_VH), WORDS):
        part = slice(start, start + WORDS)
        logits_NV[:, part] = precise @ head_VH[part].float().T
    return logits_NV


def _product_back(odds_NV: Tensor, head_VH: Tensor) -> Tensor:
    """Gradient [N, H] of the hidden states."""
    if not _is_emulated(head_VH):
        return odds_NV @ head_VH
    grad_NH = torch.zeros(len(odds_NV), head_VH.shape[1])
    for start in range(0, len(head_VH), WORDS):
        part = slice(start, start + WORDS)
        grad_NH.addmm_(odds_NV[:, part].float(), head_VH[part].float())
    return grad_NH


def _is_emulated(head_VH: Tensor) -> bool:
    """Most CPUs have no products in bf16: made up from fp32 ones, they take three times as long as those."""
    return head_VH.device.type == "cpu" and head_VH.dtype in (torch.bfloat16, torch.float16)


def _to_odds(logits_NV: Tensor, labels_N: Tensor, precise: torch.dtype) -> tuple[Tensor, Tensor]:
    """Negative log-likelihoods [N], and the sums [N] of exp(logit - greatest logit).

    The logits become those exponentials in place, less their sum at the label: the gradient but for its scale. Some
    rows at a time are computed in fp32, so that no second [N, V] tensor is needed.
    """
    losses, sums = (torch.empty(len(labels_N), dtype=precise, device=logits_NV.device) for _ in range(2))
    for start in range(0, len(labels_N), BLOCK):
        part = slice(start, start + BLOCK)
        odds, labels = logits_NV[part].to(precise), labels_N[part, None]
        own = odds.gather(1, labels)
        most = odds.amax(dim=1, keepdim=True)
        total = odds.sub_(most).exp_().sum(dim=1, keepdim=True)
        losses[part], sums[part] = (total.log() + most - own).squeeze(1), total.squeeze(1)
        odds.scatter_add_(1, labels, -total)
        if odds.dtype != logits_NV.dtype:
            logits_NV[part] = odds
    return losses, sums


def target_cross_entropy(
    hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, scale_N: Tensor, chunk: int | None = None
) -> Tensor:
    """Sum over the targets of scale x negative log-likelihood, as a 0-d tensor in fp32 (fp64 for fp64 input).

    `hidden_NH` are the states that predict the targets `labels_N`; the head must be frozen.
    """
    if head_VH.requires_grad:
        raise ValueError("the output head is trained, but this loss makes no gradient for it")
    most = chunk or max(1, CHUNK_BYTES // (len(head_VH) * head_VH.element_size()))
    num_chunks = max(1, -(-len(labels_N) // most))
    chunk = max(1, -(-len(labels_N) // num_chunks))  # of one length, or the last one may be short and slow
    return _TargetCrossEntropy.apply(hidden_NH, head_VH, labels_N, scale_N, chunk)  # type: ignore[no-any-return, no-untyped-call]
