from typing import Any

import pytest

from app.geometry import BUILT_IN
from app.planner import Lengths, MemoryPlan, make_plan, usable, would_fit
from app.schemas import TrainingConfig

REAL = BUILT_IN["Qwen/Qwen3-VL-8B-Instruct"]
GIB = 2**30
LENGTHS = Lengths(longest=1600, mean=350)


def planned(gib: float | None, lengths: Lengths = LENGTHS, on_gpu: bool = True, **config: Any) -> MemoryPlan:
    available = None if gib is None else int(gib * GIB)
    return make_plan(TrainingConfig(**config), lengths, REAL, available, on_gpu)


@pytest.mark.parametrize("gib", [8, 10, 12, 16, 24, 40, 80, 140])
def test_a_plan_stays_below_what_is_free(gib: int) -> None:
    found = planned(gib)
    assert found.fits and found.memory.total <= usable(gib * GIB) < gib * GIB


def test_more_memory_means_less_work_again() -> None:
    layers = [planned(gib).checkpointed_layers for gib in (8, 10, 12, 16, 24)]
    assert layers == sorted(layers, reverse=True) and (layers[0], layers[-1]) == (36, 0)


def test_a_roomy_card_takes_a_whole_step_in_a_row() -> None:
    assert (planned(80).row_tokens, planned(80).checkpointed_layers) == (2816 * 2, 0)


def test_a_row_holds_at_least_the_longest_example() -> None:
    lengths = Lengths(longest=30_000, mean=350)
    assert planned(8, lengths).row_tokens == planned(80, lengths).row_tokens == 30_000


def test_what_is_set_is_not_chosen() -> None:
    found = planned(80, row_tokens=4096, checkpointed_layers=30)
    assert (found.row_tokens, found.checkpointed_layers) == (4096, 30)


def test_a_cpu_keeps_to_a_simple_rule() -> None:
    found = planned(200, on_gpu=False)
    assert (found.row_tokens, found.checkpointed_layers) == (4096, 36)


def test_a_cpu_with_little_memory_takes_shorter_rows() -> None:
    lengths = Lengths(longest=100, mean=50)
    assert [planned(gib, lengths, on_gpu=False).row_tokens for gib in (200, 9.6, None)] == [4096, 100, 4096]


def test_a_bf16_base_is_named_where_it_would_fit() -> None:
    assert [planned(gib).bf16_fits for gib in (16, 24)] == [False, True]
    assert not planned(24, use_qlora=False).bf16_fits


def test_without_known_memory_nothing_is_promised() -> None:
    found = planned(None)
    assert (found.fits, found.usable, found.checkpointed_layers) == (None, None, 36)


@pytest.mark.parametrize(
    ("gib", "config", "wanted"),
    [
        (12, {"use_qlora": False}, [{"use_qlora": True}]),
        (24, {"checkpointed_layers": 0, "row_tokens": 16_384}, [{"row_tokens": "auto", "checkpointed_layers": "auto"}]),
        (9, {"lora_r": 256}, [{"lora_r": 64}]),
        (8.5, {"max_length": 8192}, [{"max_length": 2048}]),
        (4, {}, []),
    ],
)
def test_what_would_fit_gives_up_as_little_as_it_can(gib: float, config: dict[str, Any], wanted: list[Any]) -> None:
    full, lengths = TrainingConfig(**config), Lengths(longest=config.get("max_length", 1600), mean=350)
    assert not planned(gib, lengths, **config).fits
    found = would_fit(full, lengths, REAL, int(gib * GIB), True)
    assert [one["config"] for one in found] == wanted


def test_each_proposal_really_fits() -> None:
    config, available = TrainingConfig(use_qlora=False, lora_r=256, max_length=8192), 11 * GIB
    lengths = Lengths(longest=8192, mean=900)
    found = would_fit(config, lengths, REAL, available, True)
    assert found and all(one["total"] <= usable(available) for one in found)
