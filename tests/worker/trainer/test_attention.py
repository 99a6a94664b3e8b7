"""The attention over packed rows: what it computes, what it asks a GPU for, and what it leaves to SDPA."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tests.tiny import CPU, make_examples
from worker.trainer import attention
from worker.trainer.attention import DENSE, PACKED, Segments, find_segments, has_kernel, packed_attention, packed_mask
from worker.trainer.images import Vision
from worker.trainer.model import Trainee, load_base
from worker.trainer.packing import pack

LENGTHS = (5, 1, 7)


def heads(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, count, sum(LENGTHS), 8, dtype=dtype)


def segments_of(lengths: tuple[int, ...]) -> Segments:
    return find_segments(torch.cat([torch.arange(length) for length in lengths])[None])


def with_dense_mask(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    owner = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    mask = (owner[:, None] == owner[None]).tril()
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True).transpose(1, 2)


@pytest.fixture
def module() -> Any:
    return SimpleNamespace(num_key_value_groups=2, is_causal=True)


def test_segments_begin_where_positions_do_not_go_on() -> None:
    found = segments_of(LENGTHS)
    assert found.lengths == LENGTHS
    assert found.bounds.tolist() == [0, 5, 6, 13]
    assert found.bounds.dtype == torch.int32


def test_segments_of_rows_with_images_are_those_of_the_text_positions() -> None:
    text, vision = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 0, 0, 0, 0])
    assert find_segments(torch.stack([text, vision, vision, vision])[:, None]).lengths == (3, 2)


def test_it_equals_attention_under_a_dense_mask(module: Any) -> None:
    query, key, value = heads(4), heads(2), heads(2)
    found, _ = packed_attention(module, query, key, value, None, segments=segments_of(LENGTHS))
    torch.testing.assert_close(found, with_dense_mask(query, key, value), rtol=0, atol=1e-14)


def test_a_row_without_segments_has_them_found(module: Any) -> None:
    query, key, value = heads(4), heads(2), heads(2)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    found, _ = packed_attention(module, query, key, value, None, position_ids=positions)
    torch.testing.assert_close(found, with_dense_mask(query, key, value), rtol=0, atol=1e-14)


def test_a_token_behind_a_cache_goes_to_sdpa(module: Any) -> None:
    query, key, value = heads(4)[:, :, -1:], heads(2), heads(2)
    found, _ = packed_attention(module, query, key, value, None, position_ids=torch.tensor([[12]]))
    wanted = scaled_dot_product_attention(query, key, value, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_a_row_gets_no_mask_and_a_padded_batch_gets_one() -> None:
    sizes: dict[str, Any] = {"q_length": 4, "kv_length": 4, "q_offset": 0, "kv_offset": 0, "device": CPU}
    assert packed_mask(batch_size=1, **sizes) is None
    padded = torch.tensor([[False, True, True, True], [True] * 4])
    mask = packed_mask(batch_size=2, attention_mask=padded, **sizes)
    assert mask is not None and mask.shape == (2, 1, 4, 4)


def test_only_the_text_model_uses_it(model_dir: Path) -> None:
    base = load_base(model_dir, False, CPU)
    assert base.config.text_config._attn_implementation == PACKED
    assert base.model.language_model.config._attn_implementation == PACKED
    assert base.model.visual.config._attn_implementation == DENSE


def test_a_row_reaches_every_layer_with_its_segments_and_no_mask(
    exact: Trainee, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    one_by_one = attention._one_by_one

    def spy(query: Tensor, key: Tensor, value: Tensor, segments: Segments, *rest: Any) -> Tensor:
        seen.append(segments.lengths)
        return one_by_one(query, key, value, segments, *rest)

    monkeypatch.setattr(attention, "_one_by_one", spy)
    exact.hidden(pack(make_examples((9, 2), (4, 1)), [1.0, 1.0], vision, CPU))
    assert seen == [(9, 4), (9, 4)]


def test_the_kernel_is_asked_for_causal_segments(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    asked: dict[str, Any] = {}

    def stand_in(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> Tensor:
        asked.update(options, shapes=(q.shape, k.shape, v.shape), rest=rest)
        return q

    monkeypatch.setattr(attention, "_ATTEND", stand_in)
    monkeypatch.setattr(attention, "has_kernel", lambda *_: True)
    query, segments = heads(4, torch.bfloat16), segments_of(LENGTHS)
    found, _ = packed_attention(
        module, query, heads(2, torch.bfloat16), heads(2, torch.bfloat16), None, scaling=0.25, segments=segments
    )
    assert torch.equal(found, query.transpose(1, 2))
    assert asked["shapes"] == ((13, 4, 8), (13, 2, 8), (13, 2, 8))
    assert asked["rest"] == (segments.bounds, segments.bounds, 7, 7)
    assert (asked["scale"], asked["window_size"]) == (0.25, (-1, 0))


def test_the_kernel_is_for_half_precision_on_cuda_alone() -> None:
    assert not has_kernel(torch.zeros(1, dtype=torch.bfloat16))
    on_cuda: Any = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    assert has_kernel(on_cuda)
    assert not has_kernel(on_cuda, dropout=0.1)
    assert not has_kernel(SimpleNamespace(is_cuda=True, dtype=torch.float32))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_equals_a_dense_mask_with_its_gradients(module: Any) -> None:
    given = [one.to("cuda", torch.bfloat16).requires_grad_() for one in (heads(4), heads(2), heads(2))]
    exact = [one.detach().double().requires_grad_() for one in given]
    segments = segments_of(LENGTHS).to(torch.device("cuda"))
    (found, _), (wanted, _) = (
        packed_attention(module, query, key, value, None, segments=segments) for query, key, value in (given, exact)
    )
    pull = torch.randn_like(found)
    found.backward(pull)
    wanted.backward(pull.double())
    torch.testing.assert_close(found.double(), wanted, rtol=2e-2, atol=2e-2)
    for one, other in zip(given, exact, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=3e-2, atol=3e-2)
