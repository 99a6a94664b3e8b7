from typing import Any

import pytest

from app.geometry import BUILT_IN, read_geometry

REAL = "Qwen/Qwen3-VL-8B-Instruct"
CONFIG: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": False,
    "text_config": {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}


def test_the_real_model_is_known_without_its_files() -> None:
    assert read_geometry(CONFIG) == BUILT_IN[REAL]


def test_parameters_are_those_of_the_real_model() -> None:
    found = BUILT_IN[REAL]
    assert (found.params, found.vision_params, found.embedding_params) == (8_767_123_696, 576_388_336, 1_244_659_712)
    assert found.linear_params + found.norm_params == 6_946_075_648


@pytest.mark.parametrize(("rank", "wanted"), [(32, 87_293_952), (64, 174_587_904)])
def test_an_adapter_has_as_many_parameters_as_peft_counts(rank: int, wanted: int) -> None:
    assert BUILT_IN[REAL].lora_params(rank) == wanted


def test_tied_embeddings_count_once() -> None:
    found = read_geometry(CONFIG | {"tie_word_embeddings": True})
    assert found is not None and found.embedding_params == 622_329_856


@pytest.mark.parametrize(
    "config",
    [
        {},
        CONFIG | {"model_type": "llama"},
        CONFIG | {"vision_config": None},
        CONFIG | {"text_config": {"hidden_size": "wide"}},
    ],
)
def test_another_kind_of_configuration_has_no_geometry(config: dict[str, Any]) -> None:
    assert read_geometry(config) is None
