import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.worker.fake_server import FakeServer
from worker.client import Client
from worker.supervise import Bench

FAKE_TRAINER = Path(__file__).parent / "fake_trainer.py"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.hold_files.set()
    fake.close()


@pytest.fixture
def settings(tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("REDIS_URL", raising=False)
    token_file = tmp_path / "worker-token"
    token_file.write_text("secret\n")
    known: dict[str, Any] = {"server_url": server.url, "token_file": token_file, "node_name": "here", "hub": False}
    return Settings(data_dir=tmp_path, stop_grace_s=1.0, kernel_log=tmp_path / "kmsg", **known)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    made = Client(settings.base_url, settings.worker_token_path)
    yield made
    made.close()


@pytest.fixture
def bench(settings: Settings, client: Client, tmp_path: Path) -> Callable[..., Bench]:
    """A lane's bench with a trainer that counts, by its plan: steps, pause, checkpoint_at, killed_at, deaf, ..."""

    def make(draining: Callable[[], bool] = lambda: False, **plan: Any) -> Bench:
        return Bench(client, settings, draining, fake_trainer(tmp_path, **plan))

    return make


def fake_trainer(folder: Path, **plan: Any) -> tuple[str, ...]:
    """The command of a trainer with that plan."""
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    return (sys.executable, str(FAKE_TRAINER), str(path))
