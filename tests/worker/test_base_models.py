from pathlib import Path

import pytest

from app.config import Settings
from app.schemas import TINY_MODEL
from tests.factories import make_model
from worker.base_models import BaseModel, resolve
from worker.faults import PreparationFailed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", model_roots=str(tmp_path / "models"), hub=True)


def no_download(repository: str) -> BaseModel:
    raise AssertionError(f"{repository} must not be downloaded")


def refusal(model: str, settings: Settings) -> PreparationFailed:
    with pytest.raises(PreparationFailed) as caught:
        resolve(model, settings, no_download)
    return caught.value


def test_the_built_in_model_needs_no_files(settings: Settings, tmp_path: Path) -> None:
    found = resolve(TINY_MODEL, settings, no_download)
    assert found.path == tmp_path / "data" / "worker" / "models" / TINY_MODEL


def test_a_folder_of_a_root_is_found_by_its_name_and_by_its_path(settings: Settings, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models" / "Qwen" / "small")
    assert resolve("Qwen/small", settings, no_download).path == folder
    assert resolve(str(folder), settings, no_download).path == folder


@pytest.mark.parametrize("name", ["../elsewhere", "elsewhere", "."])
def test_nothing_outside_the_roots_is_read(settings: Settings, tmp_path: Path, name: str) -> None:
    make_model(tmp_path / "elsewhere")
    (tmp_path / "models").mkdir()
    assert refusal(name, settings).code == "model_missing"
    assert refusal(str(tmp_path / "elsewhere"), settings).code == "model_missing"


def test_every_missing_file_is_named_at_once(settings: Settings, tmp_path: Path) -> None:
    index = b'{"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}'
    make_model(tmp_path / "models" / "large", **{"tokenizer.json": None, "model.safetensors.index.json": index})
    told = refusal("large", settings)
    assert told.code == "model_incomplete"
    assert "no tokenizer.json, no model-00002.safetensors" in told.message


def test_the_hub_is_asked_for_what_is_not_here(settings: Settings, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "cache")
    found = resolve("Qwen/new", settings, lambda repository: BaseModel(folder, "abc"))
    assert found == BaseModel(folder, "abc")


def test_without_the_hub_it_is_told_what_to_place_where(tmp_path: Path) -> None:
    told = refusal("Qwen/new", Settings(data_dir=tmp_path, hub=False))
    assert told.code == "hub_off"
    assert str(tmp_path / "models" / "Qwen" / "new") in told.advice


def test_the_control_center_is_asked_before_the_hub(settings: Settings, tmp_path: Path) -> None:
    fetched = make_model(tmp_path / "fetched")
    assert resolve("Qwen/new", settings, no_download, lambda: fetched).path == fetched
    assert resolve("our-model", settings, no_download, lambda: fetched).path == fetched
    half = make_model(tmp_path / "half", **{"tokenizer.json": None})
    with pytest.raises(PreparationFailed, match="no tokenizer"):
        resolve("our-model", settings, no_download, lambda: half)
