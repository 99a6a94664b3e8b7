"""`trainctl train`: the original's command lines with only the program's name and the paths changed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.factories import jsonl, record, rows


def train(tmp_path: Path, *arguments: str, seconds: float = 110) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TRAINCTL_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "app.cli", "train", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "leo_10k_qlora.jsonl"
    path.write_bytes(rows(100) + jsonl(record("q", None)))
    return path


def test_the_command_by_hand_leaves_an_adapter(tmp_path: Path, dataset: Path) -> None:
    out = tmp_path / "adapters" / "test"
    done = train(
        tmp_path,
        *["--dataset", str(dataset), "--model", "tiny-qwen3-vl", "--output-dir", str(out), "--epochs", "1"],
        *["--use-qlora", "--batch-size", "1", "--gradient-accumulation", "8", "--max-length", "2048"],
        *["--learning-rate", "2e-4", "--lora-r", "32", "--lora-alpha", "32", "--skip-validation", "--yes"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Dataset ready: 99 train examples, 1 validation" in done.stdout and "Training started" in done.stdout
    names = {"adapter_model.safetensors", "adapter_config.json", "manifest.json", "README.md"}
    assert names <= {one.name for one in out.iterdir()}
    config = json.loads((out / "manifest.json").read_text())["config"]
    assert (config["use_qlora"], config["lora_r"], config["gradient_accumulation"]) == (True, 32, 8)


def test_the_verification_reads_the_originals_config(tmp_path: Path, dataset: Path) -> None:
    original = {"model_path": "tiny-qwen3-vl", "use_qlora": True, "batch_size": 1, "gradient_accumulation": 8}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(original | {"poll_interval": 30, "snapshot_time": "03:00", "epochs": 9}))
    out = tmp_path / "out"
    arguments = ["--dataset", str(dataset), "--output-dir", str(out), "--config", str(config), "--yes"]
    done = train(tmp_path, *arguments, "--epochs", "0.1", "--sample-prompts", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ignored in" in done.stdout and "poll_interval, snapshot_time" in done.stdout
    assert json.loads((out / "manifest.json").read_text())["config"]["epochs"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--learning-rate", "fast", "--lora-r", "0"], "--lora-r"),
        (["--model", "no such folder"], "no such folder"),
        (["--config", "missing.json"], "missing.json"),
        (["--neftune-alpha", "5"], "--neftune-alpha"),
    ],
)
def test_a_wrong_flag_is_a_sentence_and_not_a_traceback(
    tmp_path: Path, dataset: Path, arguments: list[str], hint: str
) -> None:
    given = ["--dataset", str(dataset), "--model", "tiny-qwen3-vl", "--output-dir", str(tmp_path / "o"), "--yes"]
    done = train(tmp_path, *given, *arguments)
    assert done.returncode in (1, 2) and hint in done.stderr and "Traceback" not in done.stderr


def test_lines_in_error_need_a_yes(tmp_path: Path, dataset: Path) -> None:
    done = train(tmp_path, "--dataset", str(dataset), "--model", "tiny-qwen3-vl", "--output-dir", str(tmp_path / "o"))
    assert done.returncode == 1 and "line 101: null_content" in done.stdout and "--yes" in done.stderr


def test_a_second_command_goes_on_from_the_adapter_of_the_first(tmp_path: Path, dataset: Path) -> None:
    small = ["--dataset", str(dataset), "--model", "tiny-qwen3-vl", "--yes", "--epochs", "0.2", "--sample-prompts", "0"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(tmp_path, *small, "--output-dir", str(first)).returncode == 0
    done = train(tmp_path, *small, "--output-dir", str(second), "--from-adapter", str(first))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Going on from the adapter first" in done.stdout and "Memory plan: " in done.stdout
    parent = json.loads((second / "manifest.json").read_text())["from_adapter"]
    weights = (first / "adapter_model.safetensors").read_bytes()
    assert parent == {"id": None, "name": "first", "sha256": hashlib.sha256(weights).hexdigest()}
