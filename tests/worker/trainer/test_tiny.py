"""The built-in model: small, the same each time, and a real Qwen3-VL."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from worker.trainer.atomic import list_files
from worker.trainer.base_files import check_base_model
from worker.trainer.tiny import build_tiny_model, main


def test_two_builds_are_the_same_bytes(model_dir: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    again = build_tiny_model(tmp_path / "again")
    assert list_files(again) == list_files(model_dir)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_complete_and_small(model_dir: Path) -> None:
    check_base_model(model_dir, "tiny")
    assert sum(one["size"] for one in list_files(model_dir)) < 3_000_000


def test_transformers_loads_every_weight(model_dir: Path) -> None:
    _, report = Qwen3VLForConditionalGeneration.from_pretrained(model_dir, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_its_special_ids_are_those_of_its_tokenizer(model_dir: Path) -> None:
    config = json.loads((model_dir / "config.json").read_text("utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert config["image_token_id"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert config["text_config"]["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert config["text_config"]["vocab_size"] >= len(tokenizer)


def test_it_is_built_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model")
    check_base_model(tmp_path / "model", "tiny")


def test_a_model_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    build_tiny_model(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []
