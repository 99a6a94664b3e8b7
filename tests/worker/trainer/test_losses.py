"""The chunked loss against the plain one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from worker.trainer.losses import target_cross_entropy

N, H, V = 37, 8, 101


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(N, H, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    head = torch.randn(V, H, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(V, (N,), generator=generator)
    return hidden, head, labels, torch.rand(N, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 7, N, 1000])
def test_loss_and_gradient_equal_those_of_full_logits(chunk: int) -> None:
    hidden, head, labels, scale = inputs()
    wanted = (cross_entropy(hidden @ head.T, labels, reduction="none") * scale).sum()
    (wanted_grad,) = torch.autograd.grad(wanted, hidden)
    loss = target_cross_entropy(hidden, head, labels, scale, chunk)
    (grad,) = torch.autograd.grad(3 * loss, hidden)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-13)
    torch.testing.assert_close(grad, 3 * wanted_grad, rtol=1e-12, atol=1e-14)


def test_bf16_states_give_a_loss_summed_in_fp32() -> None:
    hidden, head, labels, _ = inputs(torch.bfloat16)
    many = hidden.detach().repeat(100, 1), head, labels.repeat(100), torch.ones(100 * N)
    loss = target_cross_entropy(*many)
    wanted = cross_entropy((hidden @ head.T).double(), labels, reduction="sum") * 100
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)


class Largest(TorchDispatchMode):
    """Remembers the most elements a tensor had that was made meanwhile."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numel = max(self.numel, made.numel())
        return made


def test_logits_of_all_targets_never_exist_at_once() -> None:
    hidden, head, labels, scale = inputs()
    with Largest() as largest:
        target_cross_entropy(hidden, head, labels, scale, chunk=4).backward()  # type: ignore[no-untyped-call]
    assert largest.numel == max(4 * V, H * V)


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    hidden, head, labels, scale = inputs()
    with torch.no_grad():
        assert not target_cross_entropy(hidden, head, labels, scale).requires_grad


def test_a_trained_head_is_refused() -> None:
    hidden, head, labels, scale = inputs()
    with pytest.raises(ValueError, match="head is trained"):
        target_cross_entropy(hidden, head.requires_grad_(), labels, scale)
