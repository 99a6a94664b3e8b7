import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from tests.tiny import make_trainee
from worker.trainer.images import Vision
from worker.trainer.model import Trainee
from worker.trainer.tiny import build_tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen3-vl")


@pytest.fixture(scope="session")
def vision(model_dir: Path) -> Vision:
    return Vision(model_dir)


@pytest.fixture
def exact(model_dir: Path) -> Iterator[Trainee]:
    """The tiny model in fp64, with an adapter that is not a no-op."""
    trainee = make_trainee(model_dir, torch.float64)
    yield trainee
    trainee.peft.zero_grad()
