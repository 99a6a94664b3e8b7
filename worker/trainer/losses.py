"""Cross-entropy on the targets alone, in chunks, so that a [T, V] tensor never exists.

N targets, H hidden size, V vocabulary. The head is frozen, so only the hidden states need a gradient; it is made in
the forward pass while the logits of a chunk are at hand. That costs two matrix products and no recomputation.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256


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
            labels, scale = labels_N[part], scale_N[part].to(precise)
            logits = (hidden_NH[part] @ head_VH.T).to(precise)
            own = logits.gather(1, labels[:, None]).squeeze(1)
            # In place: a second [chunk, V] tensor, which logsumexp would make, is half of all the memory there is.
            most = logits.amax(dim=1, keepdim=True)
            soft = logits.sub_(most).exp_()
            sums = soft.sum(dim=1, keepdim=True)
            total += ((sums.log() + most).squeeze(1).sub_(own) * scale).sum()
            if grad_NH is not None:
                soft.mul_(scale[:, None] / sums)
                soft[torch.arange(len(labels), device=labels.device), labels] -= scale
                grad_NH[part] = soft.to(head_VH.dtype) @ head_VH
        ctx.save_for_backward(*([] if grad_NH is None else [grad_NH]))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (grad_NH,) = ctx.saved_tensors
        return grad_NH * grads[0].to(grad_NH.dtype), None, None, None, None


def target_cross_entropy(
    hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, scale_N: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Sum over the targets of scale x negative log-likelihood, as a 0-d tensor in fp32 (fp64 for fp64 input).

    `hidden_NH` are the states that predict the targets `labels_N`; the head must be frozen.
    """
    if head_VH.requires_grad:
        raise ValueError("the output head is trained, but this loss makes no gradient for it")
    return _TargetCrossEntropy.apply(hidden_NH, head_VH, labels_N, scale_N, chunk)  # type: ignore[no-any-return, no-untyped-call]
