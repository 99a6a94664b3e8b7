"""A job that goes on from an adapter: new data, its own steps, the weights of the one before."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from app.schemas import JobSpec, TrainingConfig
from tests.tiny import conversation, make_job, of_kind, run_job
from worker.trainer import run
from worker.trainer.atomic import sha256_of
from worker.trainer.checkpoint import adapter_tensors
from worker.trainer.model import Trainee

FIRST, SECOND = [conversation(i) for i in range(12)], [conversation(100 + i) for i in range(8)]


@pytest.fixture(scope="module")
def parent(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter, trained on the first file."""
    folder = tmp_path_factory.mktemp("parent")
    make_job(folder, model_dir, FIRST, epochs=1)
    assert run_job(folder)["step"] == 3
    return folder / "adapter"


def next_job(folder: Path, model_dir: Path, parent: Path, **settings: Any) -> JobSpec:
    named = {"id": 5, "name": "first", "sha256": sha256_of(parent / "adapter_model.safetensors")}
    return make_job(folder, model_dir, SECOND, from_adapter_path=str(parent), from_adapter=named, **settings)


def test_two_files_in_sequence_train_the_sum_of_their_examples(
    parent: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Tensor]] = []
    make = run.make_optimizer

    def seen(trainee: Trainee, config: TrainingConfig) -> torch.optim.Optimizer:
        started.append(adapter_tensors(trainee))
        return make(trainee, config)

    monkeypatch.setattr(run, "make_optimizer", seen)
    next_job(tmp_path, model_dir, parent, epochs=1)
    assert run_job(tmp_path)["step"] == 2
    steps = of_kind(parent.parent, "step") + of_kind(tmp_path, "step")
    assert [(one["step"], one["num_steps"]) for one in steps] == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert sum(one["num_targets"] for one in steps) == sum(targets(folder) for folder in (parent.parent, tmp_path))
    before = load_file(parent / "adapter_model.safetensors")
    assert started[0].keys() == before.keys()
    assert all(torch.equal(one, before[name]) for name, one in started[0].items())


def targets(folder: Path) -> int:
    (planning,) = [one for one in of_kind(folder, "state") if one["phase"] == "planning"]
    found: int = planning["resolved"]["num_targets"]
    return found


def test_the_manifest_names_the_parent(parent: Path, model_dir: Path, tmp_path: Path) -> None:
    spec = next_job(tmp_path, model_dir, parent, max_steps=1)
    assert run_job(tmp_path)["adapter"]["manifest"]["from_adapter"] == spec.from_adapter
    assert any("Going on from the adapter first" in one["text"] for one in of_kind(tmp_path, "log"))


def test_a_resumed_job_goes_on_from_its_own_checkpoint(parent: Path, model_dir: Path, tmp_path: Path) -> None:
    next_job(tmp_path / "straight", model_dir, parent, max_steps=4, save_steps=2, keep_checkpoints=9)
    straight = run_job(tmp_path / "straight")
    checkpoint = tmp_path / "straight" / "checkpoints" / "step-00000002"
    again = {"resume_path": str(checkpoint), "resume_step": 2}
    next_job(tmp_path / "again", model_dir, parent, max_steps=4, save_steps=2, keep_checkpoints=9, **again)
    weights = [one["files"] for one in (straight["adapter"], run_job(tmp_path / "again")["adapter"])]
    hashes = [[one["sha256"] for one in files if one["path"].endswith(".safetensors")] for files in weights]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lora_r": 16}, "lora_r is 8 in the adapter and 16 here"),
        ({"lora_alpha": 8}, "lora_alpha is 16 in the adapter and 8.0 here"),
        ({"use_rslora": True}, "use_rslora is False in the adapter and True here"),
    ],
)
def test_an_adapter_of_another_shape_is_refused_by_the_difference(
    settings: dict[str, Any], named: str, parent: Path, model_dir: Path, tmp_path: Path
) -> None:
    next_job(tmp_path, model_dir, parent, **settings)
    error = run_job(tmp_path)["error"]
    assert error["code"] == "adapter_mismatch" and named in error["message"]


@pytest.mark.parametrize(
    ("file", "key", "value", "named"),
    [
        ("manifest.json", "base_model_identity", "another", "was trained on tiny-qwen3-vl, which is not this job's"),
        ("adapter_config.json", "target_modules", ["q_proj"], "other targets"),
    ],
)
def test_an_adapter_of_another_base_or_other_targets_is_refused(
    file: str, key: str, value: Any, named: str, parent: Path, model_dir: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(parent, tmp_path / "changed"))
    (changed / file).write_text(json.dumps(json.loads((changed / file).read_text()) | {key: value}))
    next_job(tmp_path / "job", model_dir, changed)
    assert named in run_job(tmp_path / "job")["error"]["message"]


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_without_its_files_is_refused(file: str, parent: Path, model_dir: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(parent, tmp_path / "torn"))
    next_job(tmp_path / "job", model_dir, torn)
    (torn / file).unlink()
    error = run_job(tmp_path / "job")["error"]
    assert error["code"] == "adapter_broken" and file in error["message"]
