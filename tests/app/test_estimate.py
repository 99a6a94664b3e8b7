"""The formula against dry-runs of the real 8B geometry, in which every allocation was counted."""

from typing import Any

import pytest

from app.estimate import NF4_BYTES, Demand, flops_per_token, memory, tokens_per_second
from app.geometry import BUILT_IN

REAL = BUILT_IN["Qwen/Qwen3-VL-8B-Instruct"]
# Those dry-runs had the vision tower in 4 bits beside the language model, no dropout and every token a target.
THERE: dict[str, Any] = {"vision_bytes": NF4_BYTES, "has_dropout": False, "target_share": 1.0}
GB, GIB = 1e9, 2**30


def close(found: int, wanted: float) -> bool:
    return abs(found / wanted - 1) <= 0.05


@pytest.mark.parametrize(
    ("row_tokens", "wanted"), [(512, 8.0), (2800, 8.8), (4096, 9.5), (8192, 11.8), (16384, 16.3), (28672, 23.0)]
)
def test_a_row_of_any_length_takes_what_was_counted(row_tokens: int, wanted: float) -> None:
    assert close(memory(REAL, Demand(row_tokens=row_tokens, **THERE)).total, wanted * GB)


@pytest.mark.parametrize(("free_layers", "wanted"), [(12, 15.0), (18, 18.1), (24, 21.1)])
def test_layers_that_are_not_recomputed_take_what_was_counted(free_layers: int, wanted: float) -> None:
    assert close(memory(REAL, Demand(row_tokens=2800, free_layers=free_layers, **THERE)).total, wanted * GB)


@pytest.mark.parametrize("change", [{"rank": 64}, {"vision_bytes": 2.0}])
def test_a_higher_rank_and_a_bf16_vision_tower_take_what_was_counted(change: dict[str, Any]) -> None:
    assert close(memory(REAL, Demand(row_tokens=8192, **(THERE | change))).total, 12.6 * GB)


@pytest.mark.parametrize(
    ("row_tokens", "free_layers", "wanted"), [(2800, 0, 20.0), (4096, 0, 20.7), (8192, 0, 22.9), (16384, 36, 132)]
)
def test_a_bf16_base_takes_what_was_counted(row_tokens: int, free_layers: int, wanted: float) -> None:
    demand = Demand(use_qlora=False, row_tokens=row_tokens, free_layers=free_layers, **THERE | {"vision_bytes": 2.0})
    assert close(memory(REAL, demand).total, wanted * GB)


# By benchmarks/memory_plan.py: our own classes with dropout, the vision tower away where no example has an image.
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"row_tokens": 512}, 6.90),
        ({"row_tokens": 2800}, 8.12),
        ({"row_tokens": 8192}, 11.29),
        ({"row_tokens": 5724}, 9.84),
        ({"row_tokens": 28672}, 23.33),
        ({"row_tokens": 2800, "free_layers": 18}, 19.53),
        ({"row_tokens": 2800, "free_layers": 36}, 31.30),
        ({"row_tokens": 2800, "use_qlora": False}, 17.98),
        ({"row_tokens": 8192, "rank": 64}, 12.11),
    ],
)
def test_our_own_engine_takes_what_its_dry_run_counted(change: dict[str, Any], wanted: float) -> None:
    assert close(memory(REAL, Demand(**change)).total, wanted * GIB)


def test_the_parts_add_up() -> None:
    shown = memory(REAL, Demand(patch_share=0.5)).as_json()
    total = shown.pop("total")
    assert sum(shown.values()) == total and min(shown.values()) >= 0
    assert list(shown) == ["weights", "adapter", "optimizer", "activations", "head", "images"]


def test_the_vision_tower_is_on_the_card_only_where_there_are_images() -> None:
    with_images, without = (memory(REAL, Demand(patch_share=share)) for share in (0.5, 0.0))
    assert with_images.weights - without.weights == 2 * 576_388_336
    assert (with_images.images > 0, without.images) == (True, 0)


@pytest.mark.parametrize(("free_layers", "wanted"), [(0, 43.4), (18, 36.3), (36, 29.3)])
def test_the_work_of_a_token_is_what_was_counted(free_layers: int, wanted: float) -> None:
    assert flops_per_token(REAL, Demand(free_layers=free_layers)) / 1e9 == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("gpu", "minutes"), [("NVIDIA GeForce RTX 4090", 24), ("NVIDIA A100-SXM4-80GB", 12.5)])
def test_the_rule_for_time_gives_the_minutes_of_ten_thousand_examples(gpu: str, minutes: float) -> None:
    rate = tokens_per_second(REAL, Demand(row_tokens=2800), 2800, gpu)
    assert rate is not None and 10_000 * 350 / rate / 60 == pytest.approx(minutes, rel=0.2)


def test_a_small_model_waits_for_its_kernels_to_start() -> None:
    rate = tokens_per_second(BUILT_IN["tiny-qwen3-vl"], Demand(row_tokens=800), 800, "NVIDIA H200")
    assert rate is not None and rate == pytest.approx(800 / (1.5 * 2 * 0.003))


@pytest.mark.parametrize("gpu", [None, "A card nobody measured"])
def test_no_time_is_told_where_none_is_known(gpu: str | None) -> None:
    assert tokens_per_second(REAL, Demand(), 2800, gpu) is None
