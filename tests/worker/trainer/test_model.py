"""What is in four bits, what is frozen, what is trained, what is recomputed."""

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from accelerate import init_empty_weights
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from app.schemas import TrainingConfig
from tests.tiny import CPU, make_examples, make_trainee
from worker.trainer.faults import JobFailed
from worker.trainer.images import Vision
from worker.trainer.model import Trainee, add_lora, check_quantized, checkpoint_layers, load_base
from worker.trainer.packing import pack


@pytest.fixture(scope="module")
def quantized(model_dir: Path) -> Trainee:
    return make_trainee(model_dir, use_qlora=True)


def test_language_linears_are_nf4_with_double_quantization(quantized: Trainee) -> None:
    linear = quantized.base.model.language_model.layers[0].mlp.up_proj.base_layer
    assert isinstance(linear, bnb.nn.Linear4bit)
    assert linear.weight.quant_state.quant_type == "nf4"
    assert linear.weight.quant_state.nested
    assert linear.compute_dtype == torch.bfloat16


def test_embedding_head_norms_and_vision_stay_in_bf16(quantized: Trainee) -> None:
    kept = [one for name, one in quantized.base.named_parameters() if "layers" not in name or "norm" in name]
    assert {one.dtype for one in kept} == {torch.bfloat16}
    assert not any(isinstance(one, bnb.nn.Linear4bit) for one in quantized.base.model.visual.modules())


def test_only_the_adapter_is_trained_and_in_fp32(quantized: Trainee) -> None:
    assert all(".lora_" in name and "visual" not in name for name in quantized.parameters)
    assert {one.dtype for one in quantized.parameters.values()} == {torch.float32}
    assert len(quantized.parameters) == 2 * 7 * 2


def test_a_quantized_vision_tower_is_noticed(model_dir: Path) -> None:
    base = load_base(model_dir, True, CPU)
    base.model.visual.merger.linear_fc1 = bnb.nn.Linear4bit(64, 64)
    with pytest.raises(JobFailed, match=r"for instance model\.visual\.merger\.linear_fc1"):
        check_quantized(base)


@pytest.mark.parametrize(("rank", "wanted"), [(32, 87_293_952), (64, 174_587_904)])
def test_the_trainable_count_of_the_real_8b(rank: int, wanted: int) -> None:
    text = {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    with init_empty_weights():
        base = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config={"out_hidden_size": 4096}))
        trainee = add_lora(base.requires_grad_(False), TrainingConfig(lora_r=rank), CPU)
    assert trainee.num_trainable == wanted
    assert len(trainee.parameters) == 252 * 2


class Calls:
    def __init__(self, layers: Any) -> None:
        self.counts = [0] * len(layers)
        for place, layer in enumerate(layers):
            layer.self_attn.register_forward_pre_hook(lambda *_, place=place: self._count(place))

    def _count(self, place: int) -> None:
        self.counts[place] += 1


@pytest.mark.parametrize(("wanted", "counts"), [("auto", [2, 2]), (2, [2, 2]), (1, [2, 1]), (0, [1, 1])])
def test_as_many_layers_are_recomputed_as_asked(
    wanted: str | int, counts: list[int], model_dir: Path, vision: Vision
) -> None:
    trainee = make_trainee(model_dir)
    checkpoint_layers(trainee.base, wanted)
    calls = Calls(trainee.base.model.language_model.layers)
    trainee.peft.train()
    trainee.hidden(pack(make_examples((9, 3)), [1.0], vision, CPU)).sum().backward()
    assert calls.counts == counts


def test_more_layers_than_there_are_cannot_be_recomputed(exact: Trainee) -> None:
    with pytest.raises(JobFailed, match="has 2 layers"):
        checkpoint_layers(exact.base, 3)
