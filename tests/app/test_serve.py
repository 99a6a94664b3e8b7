import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from app import serve
from app.config import Settings
from app.processes import WEB_LOCK, take_lock
from app.running import ADDRESS, note_address, reaching
from tests.conftest import REPOSITORY, free_port
from tests.waiting import PATIENT_S


def test_a_second_web_process_of_a_data_directory_ends_with_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.data_dir.mkdir()
    held = take_lock(settings.data_dir / WEB_LOCK)
    assert held is not None
    monkeypatch.setattr(serve, "LOCK_WAIT_S", 0.0)
    with pytest.raises(SystemExit, match="Another control center already serves"):
        serve.serve(settings)
    os.close(held)


def test_the_directory_is_free_again_after_its_web_process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[bool] = []

    def look(_: Settings) -> None:
        served.append(take_lock(settings.data_dir / WEB_LOCK) is None)

    monkeypatch.setattr(serve, "_serve", look)
    serve.serve(settings)
    free = take_lock(settings.data_dir / WEB_LOCK)
    assert served == [True] and free is not None
    os.close(free)


def test_a_command_finds_the_running_control_center_of_its_directory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, found = settings.data_dir, []

    def look(served: Settings) -> None:
        note_address(served)
        found.append(reaching(Settings(data_dir=data_dir)).base_url)
        found.append(reaching(Settings(data_dir=data_dir, host="localhost")).base_url)
        found.append(reaching(Settings(data_dir=data_dir, port=7999)).base_url)
        found.append(reaching(Settings(data_dir=data_dir, server_url="http://far:1")).base_url)

    monkeypatch.setattr(serve, "_serve", look)
    usual = Settings(data_dir=data_dir).base_url
    assert reaching(Settings(data_dir=data_dir)).base_url == usual
    serve.serve(Settings(data_dir=data_dir, port=7901))
    assert found == ["http://127.0.0.1:7901", "http://localhost:7901", "http://127.0.0.1:7999", "http://far:1"]
    assert reaching(Settings(data_dir=data_dir)).base_url == usual
    monkeypatch.setattr("app.running._is_running", lambda _: True)
    (data_dir / ADDRESS).write_text("[]")
    assert reaching(Settings(data_dir=data_dir)).base_url == usual


@contextmanager
def web_process(data_dir: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "app.cli", "web", "--data-dir", str(data_dir), "--port", str(port)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_signal_ends_the_open_streams_and_then_the_process(settings: Settings) -> None:
    port = free_port()
    with web_process(settings.data_dir, port) as web, ExitStack() as opened:
        client = opened.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20))
        until = time.monotonic() + 60
        while not answers(client):
            assert web.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        assert json.loads((settings.data_dir / ADDRESS).read_text())["port"] == port
        client.headers["Authorization"] = f"Bearer {(settings.data_dir / 'token').read_text().strip()}"
        places = ["/api/events", "/api/events?topics=state,queue", "/api/events?topics=node", "/api/events"]
        streams = [opened.enter_context(client.stream("GET", place)) for place in places]
        assert [one.status_code for one in streams] == [200] * len(places)
        web.terminate()
        for one in streams:
            one.read()  # to its end, which raises where the connection was broken off
        assert web.wait(PATIENT_S) == 0


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def test_an_address_is_noted_only_by_who_listens_there(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, web_process(settings.data_dir, taken.getsockname()[1]) as web:
        assert web.wait(60) != 0
    assert not (settings.data_dir / ADDRESS).exists()
