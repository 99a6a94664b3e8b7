"""Fixtures that several folders share: an app in this process, and a whole control center in processes of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.storage import Storage
from app.tables import bring_up_to_date
from tests.factories import Center

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Packed bytes hold the time of day, and the name of a test must be the same in every process."""
    return argname if isinstance(val, bytes) and val[:2] in (b"\x1f\x8b", b"PK", b"\x28\xb5") else None


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of today's tables, made once a process by the migrations."""
    storage = Storage(tmp_path_factory.mktemp("empty"))
    storage.prepare()
    bring_up_to_date(storage)
    return storage.database.read_bytes()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", lease_s=60, port=7860, redis_url=None)


@pytest.fixture
def center(settings: Settings, empty_database: bytes) -> Iterator[Center]:
    """The app in this process, with no broker: wake-ups get lost, and nothing may depend on them."""
    settings.data_dir.mkdir(mode=0o700)
    database = Storage(settings.data_dir).database
    database.touch(0o600)
    database.write_bytes(empty_database)
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield Center(app, client)


@dataclass
class Server:
    """A control center in processes of its own."""

    url: str
    token: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(data_dir: Path, port: int, lease_s: float = 5, **more: str) -> Server:
    """`trainctl up` on a port, with `more` in its environment; returns once it answers."""
    environment = {**os.environ, "TRAINCTL_LEASE_S": str(lease_s), "OMP_NUM_THREADS": "1", **more}
    environment.pop("REDIS_URL", None)
    command = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(data_dir), "--port", str(port), "--no-hub"]
    process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success:
                return Server(url, (data_dir / "token").read_text().strip(), data_dir, process)
        except httpx.TransportError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(f"trainctl up did not answer at {url}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One control center for all tests that watch the whole system; each uses datasets and jobs of its own."""
    started = start_server(tmp_path_factory.mktemp("center") / "data", free_port())
    yield started
    started.process.terminate()
    started.process.wait(timeout=60)
