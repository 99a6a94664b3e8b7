"""The self-check at a job's start: it lets a right attention pass, and a wrong one never train anything."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.conversations.normalize import normalize
from app.conversations.render import Renderer
from tests.tiny import conversation, make_examples, make_job, make_trainee, of_kind, picture_conversation, run_job
from worker.trainer import attention
from worker.trainer.attention import DENSE, PACKED, Segments, attention_of
from worker.trainer.encode import to_example
from worker.trainer.images import Vision
from worker.trainer.model import Trainee
from worker.trainer.self_check import check_attention, relative_difference, shortest

EXAMPLES = make_examples((30, 9), (12, 4), (25, 3))
RECORDS = [conversation(i) for i in range(24)]


def say_nothing(text: str, level: str = "info") -> None:
    pass


@pytest.fixture
def leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples of a row see those in front of them."""
    one_by_one = attention._one_by_one

    def wrong(query: Tensor, key: Tensor, value: Tensor, segments: Segments, *rest: Any) -> Tensor:
        return one_by_one(query, key, value, Segments((query.shape[2],), segments.bounds[[0, -1]]), *rest)

    monkeypatch.setattr(attention, "_one_by_one", wrong)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_what_is_right_differs_by_rounding_alone(
    model_dir: Path, vision: Vision, dtype: torch.dtype, most: float
) -> None:
    trainee = make_trainee(model_dir, dtype, lora_dropout=0.5)
    assert relative_difference(trainee, EXAMPLES, vision, 1000) < most


def test_a_quantized_model_passes(model_dir: Path, vision: Vision) -> None:
    trainee = make_trainee(model_dir, use_qlora=True, lora_dropout=0.5)
    assert check_attention(trainee, EXAMPLES, vision, 1000, say_nothing)
    assert attention_of(trainee.base) == PACKED


def test_rows_with_images_pass(exact: Trainee, model_dir: Path, vision: Vision) -> None:
    renderer = Renderer.load(model_dir)
    made = [to_example(1, renderer.encode(normalize(picture_conversation(i)))) for i in range(2)]
    assert relative_difference(exact, [*EXAMPLES, *(one for one in made if one)], vision, 1000) < 1e-12


@pytest.mark.usefixtures("leak")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_examples_that_see_one_another_are_noticed(model_dir: Path, vision: Vision, dtype: torch.dtype) -> None:
    trainee = make_trainee(model_dir, dtype)
    assert not check_attention(trainee, EXAMPLES, vision, 1000, say_nothing)
    assert attention_of(trainee.base) == DENSE


def test_a_gradient_that_is_not_a_number_is_noticed(
    exact: Trainee, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = attention._one_by_one

    def wrong(*given: Any) -> Tensor:
        made = one_by_one(*given)
        made.register_hook(lambda grad: grad * float("nan"))  # type: ignore[no-untyped-call]
        return made

    monkeypatch.setattr(attention, "_one_by_one", wrong)
    assert not check_attention(exact, EXAMPLES, vision, 1000, say_nothing)


def test_a_kernel_that_refuses_is_no_crash(exact: Trainee, vision: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Tensor:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")

    monkeypatch.setattr(attention, "_one_by_one", refuse)
    said: list[str] = []
    assert not check_attention(exact, EXAMPLES, vision, 1000, lambda text, level: said.append(f"{level}: {text}"))
    assert said[0].startswith("warning: ") and "only supports Ampere" in said[0]


def test_it_leaves_neither_a_gradient_nor_a_drawn_number(model_dir: Path, vision: Vision) -> None:
    trainee = make_trainee(model_dir, lora_dropout=0.5)
    trainee.peft.train()
    before = torch.get_rng_state()
    check_attention(trainee, EXAMPLES, vision, 1000, say_nothing)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(one.grad is None for one in trainee.parameters.values())
    assert all(one.training for one in trainee.peft.modules())


def test_short_examples_are_taken_first_and_one_at_least() -> None:
    assert [one.num_tokens for one in shortest(EXAMPLES, 40)] == [12, 25]
    assert [one.num_tokens for one in shortest(EXAMPLES, 5)] == [12]


def losses_of(folder: Path) -> list[float]:
    return [one["loss"] for one in of_kind(folder, "step")]


def test_a_job_says_that_it_checked(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    run_job(tmp_path)
    assert any("equals its examples alone" in one["text"] for one in of_kind(tmp_path, "log"))


def test_a_job_with_a_wrong_attention_trains_the_same_with_a_dense_mask(
    model_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in ("right", "wrong"):
        make_job(tmp_path / name, model_dir, RECORDS, max_steps=3)
    run_job(tmp_path / "right")
    request.getfixturevalue("leak")
    assert run_job(tmp_path / "wrong")["outcome"] == "succeeded"
    warnings = [one["text"] for one in of_kind(tmp_path / "wrong", "log") if one["level"] == "warning"]
    assert "is not what its examples are alone" in warnings[0]
    assert losses_of(tmp_path / "wrong") == pytest.approx(losses_of(tmp_path / "right"), rel=2e-3)
