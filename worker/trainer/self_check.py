"""At the start of a job: does a packed row give what its examples give alone?

Attention over packed rows depends on kernels of the machine at hand. Examples that saw one another would not crash
anything; they would train a worse adapter.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from worker.trainer.attention import DENSE, PACKED, attention, has_kernel, use_attention
from worker.trainer.back_off import RowBudget, is_out_of_memory
from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee
from worker.trainer.packing import Row, pack, target_scales

# Enough for a few examples, and a small part of what a step costs.
MOST_TOKENS = 1024
# What rounding may do, relative to the size of hidden states and gradients. An example that sees its neighbour is
# off by about 1.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
HALF_TOLERANCE = 0.1


def check_attention(
    trainee: Trainee, examples: list[Example], vision: Vision, row_tokens: int, log: Callable[..., None]
) -> bool:
    """Compares a row of the shortest examples with the examples alone; if they differ, attention is dense from now on.

    Draws no random number and leaves no gradient behind. Answers whether they agree.
    """
    chosen = shortest(examples, min(MOST_TOKENS, row_tokens))
    kernel = "varlen_attn" if has_kernel(trainee.head) else "segment by segment"
    found = f"a row of {len(chosen)} examples, {sum(one.num_tokens for one in chosen):,} tokens"
    try:
        difference = relative_difference(trainee, chosen, vision, row_tokens)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        difference, found = math.inf, f"{found}, failed ({str(error).splitlines()[0]})"
    allowed = TOLERANCES.get(trainee.base.dtype, HALF_TOLERANCE)
    numbers = f"difference {difference:.1e}, allowed {allowed:.0e}"
    if difference <= allowed:
        log(f"Self-check: packed attention ({kernel}) over {found}, equals its examples alone: {numbers}")
        return True
    use_attention(trainee.base, DENSE)
    log(
        f"Self-check: packed attention ({kernel}) over {found}, is not what its examples are alone: {numbers}. "
        "The job goes on with a dense mask, which takes more time on long rows",
        level="warning",
    )
    return False


def shortest(examples: list[Example], most_tokens: int) -> list[Example]:
    """As many as fit, and at least one."""
    chosen: list[Example] = []
    total = 0
    for one in sorted(examples, key=lambda one: one.num_tokens):
        total += one.num_tokens
        if chosen and total > most_tokens:
            break
        chosen.append(one)
    return chosen


def relative_difference(trainee: Trainee, examples: list[Example], vision: Vision, row_tokens: int) -> float:
    """The largest over hidden states, example by example, and gradients of the first layer: past all the others."""
    budget = RowBudget(row_tokens, say=lambda text: None)

    def compare(members: list[int]) -> float:
        chosen = [examples[i] for i in members]
        with without_dropout(trainee):
            with attention(trainee.base, DENSE):
                wanted = _outcome(trainee, [[one] for one in chosen], vision)
            with attention(trainee.base, PACKED):
                found = _outcome(trainee, [chosen], vision)
        return max(_relative(one, other) for one, other in zip(found, wanted, strict=True))

    def undo() -> None:
        trainee.peft.zero_grad(set_to_none=True)

    return max(budget.run(examples, "the self-check", compare, undo))


def _outcome(trainee: Trainee, rows: list[list[Example]], vision: Vision) -> list[Tensor]:
    """Hidden states of each example, then the gradient of the first layer's adapter, as vectors."""
    trainee.peft.zero_grad(set_to_none=True)
    scale = target_scales([one for row in rows for one in row], "targets")[0]
    hidden: list[Tensor] = []
    for row in rows:
        packed = pack(row, [scale] * len(row), vision, trainee.device)
        states = trainee.hidden(packed)
        _loss(states, packed, trainee).backward()  # type: ignore[no-untyped-call]
        hidden += torch.split(states.detach(), [one.num_targets for one in row])
    first = [one.grad for name, one in trainee.parameters.items() if ".layers.0." in name and one.grad is not None]
    gradient = torch.cat([one.flatten() for one in first])
    trainee.peft.zero_grad(set_to_none=True)
    return [*hidden, gradient]


def _loss(states: Tensor, row: Row, trainee: Trainee) -> Tensor:
    return target_cross_entropy(states, trainee.head, row.labels, row.scale)


def _relative(found: Tensor, wanted: Tensor) -> float:
    precise = torch.promote_types(found.dtype, torch.float32)
    found, wanted = found.to(precise), wanted.to(precise)
    difference = float((found - wanted).norm() / wanted.norm().clamp_min(torch.finfo(precise).tiny))
    return difference if math.isfinite(difference) else math.inf  # NaN would get lost in a maximum


@contextmanager
def without_dropout(trainee: Trainee) -> Iterator[None]:
    """Training mode, in which layers are recomputed, but without a random number."""
    was_training = trainee.peft.training
    trainee.peft.train()
    for module in trainee.peft.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    try:
        yield
    finally:
        trainee.peft.train(was_training)
