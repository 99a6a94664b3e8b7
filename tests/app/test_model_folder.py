"""What a base model's folder lacks, said in the same words by the form, the worker and the trainer."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import AppError
from app.model_folder import INDEX, missing_parts
from app.services import model_files
from app.services.base_models import BaseModels
from app.services.model_files import ModelFiles
from tests.factories import described, make_model
from worker.base_models import check_complete
from worker.faults import PreparationFailed
from worker.trainer.base_files import check_base_model
from worker.trainer.faults import JobFailed


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, []),
        ({"preprocessor_config.json": None}, ["no preprocessor_config.json"]),
        ({"chat_template.jinja": None}, ["no chat template"]),
        ({"config.json": b"{"}, ["config.json is not readable"]),
        ({"config.json": b'{"model_type": "llama"}'}, ["its model_type is 'llama', not 'qwen3_vl'"]),
        ({"model.safetensors": None, "other.safetensors": b"weights"}, ["no model.safetensors"]),
        ({"model.safetensors": b"half"}, ["model.safetensors is cut short"]),
        ({INDEX: b"[1]"}, [f"{INDEX} is not readable"]),
        ({INDEX: b'{"weight_map": {"a": "1.safetensors"}}'}, ["no 1.safetensors"]),
    ],
)
def test_all_sides_say_the_same(tmp_path: Path, changes: dict[str, Any], missing: list[str]) -> None:
    folder = make_model(tmp_path / "models" / "one", **changes)
    assert missing_parts(folder) == missing
    problem = BaseModels((tmp_path / "models",), hub=False).problem("one")
    assert problem == (f"{folder} is not complete: {missing[0]}" if missing else None)
    if missing:
        with pytest.raises(PreparationFailed, match="cannot be used"):
            check_complete(folder)
        with pytest.raises(JobFailed, match="cannot be used"):
            check_base_model(folder, "one")


def test_a_tensor_beyond_the_file_s_end_is_noticed(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}, "a": {"data_offsets": [0, 8]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    assert missing_parts(make_model(tmp_path / "whole", **{"model.safetensors": whole})) == []
    cut = make_model(tmp_path / "cut", **{"model.safetensors": whole[:-1]})
    assert missing_parts(cut) == ["model.safetensors is cut short"]


def test_hashes_are_kept_over_a_restart_and_renewed_when_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "one")
    (folder / "pickle.bin").write_bytes(b"code")
    first = ModelFiles(tmp_path / "hashes.json").listing(folder)
    assert {one["path"]: one["sha256"] for one in first}["config.json"] == described(
        (folder / "config.json").read_bytes()
    )["sha256"]
    assert "pickle.bin" not in {one["path"] for one in first}
    again = ModelFiles(tmp_path / "hashes.json")
    monkeypatch.setattr(again, "_hash", None)
    assert again.listing(folder) == first
    monkeypatch.undo()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl", "new": 1}')
    assert again.listing(folder) != first


def test_a_model_that_takes_long_to_read_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, files = make_model(tmp_path / "one"), ModelFiles(tmp_path / "hashes.json")
    monkeypatch.setattr(model_files, "PATIENCE_S", 0.0)
    monkeypatch.setattr(files, "_hash", lambda paths: None)
    with pytest.raises(AppError) as caught:
        files.listing(folder)
    assert caught.value.status_code == 503
