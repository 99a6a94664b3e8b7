"""The inbox of a whole control center: a file in, an adapter out, with the web process killed in each state."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Server, free_port, start_server
from tests.factories import rows

SIDECAR = "max_steps: 30\ngradient_accumulation: 1\nsample_prompts: 0\nlora_r: 4\nvalidation_share: 0\n"
ORDER = ("settling", "checking", "queued", "training", "archived")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("center")
    drop = str(folder / "drop")
    started = start_server(folder / "data", free_port(), TRAINCTL_DEFAULT_MODEL="tiny-qwen3-vl", TRAINCTL_INBOX=drop)
    yield started
    started.process.terminate()
    started.process.wait(timeout=60)


def files(server: Server) -> list[dict[str, Any]]:
    for _ in range(300):
        try:
            with server.client() as client:
                found: list[dict[str, Any]] = client.get("/api/inbox").json()["items"]
                return found
        except httpx.TransportError:
            time.sleep(0.2)  # it is starting again
    raise AssertionError("the control center does not answer")


def wait_for(server: Server, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    until = time.monotonic() + 100
    while time.monotonic() < until:
        for one in files(server):
            if one["name"] == name and condition(one):
                return one
        time.sleep(0.1)
    raise AssertionError(f"it did not happen: {files(server)}")


def kill_web(server: Server) -> None:
    for child in psutil.Process(server.process.pid).children():
        if child.cmdline()[-1] == "web":
            os.kill(child.pid, signal.SIGKILL)


def drop(server: Server, name: str, content: bytes) -> Path:
    folder = server.data_dir.parent / "drop"
    (folder / f"{name}.yaml").write_text(SIDECAR)
    (folder / f".{name}.part").write_bytes(content)
    os.rename(folder / f".{name}.part", folder / name)
    return folder


def has_come_to(number: int, one: dict[str, Any]) -> bool:
    return ORDER.index(one["state"]) >= number


def test_a_file_becomes_an_adapter_although_the_web_process_is_killed_in_each_state(server: Server) -> None:
    folder = drop(server, "a.jsonl", rows(40, "inbox"))
    for number, _ in enumerate(ORDER[:-1]):
        wait_for(server, "a.jsonl", partial(has_come_to, number))
        kill_web(server)
    done = wait_for(server, "a.jsonl", lambda one: one["state"] in ("archived", "failed"))
    assert done["reason"] is None and done["state"] == "archived"
    manifest = json.loads((folder / "archive/a.jsonl.manifest.json").read_text())
    assert (manifest["job"], manifest["adapter"]) == (done["job_id"], done["adapter_id"])
    assert manifest["config"]["max_steps"] == 30 and not (folder / "a.jsonl").exists()
    with server.client() as client:
        assert len(client.get("/api/jobs").json()["items"]) == 1


def test_what_cannot_be_trained_is_put_aside_at_once(server: Server) -> None:
    folder = drop(server, "b.jsonl", b'{"messages": []}\n')
    wait_for(server, "b.jsonl", lambda one: one["state"] == "quarantined")
    assert json.loads((folder / "quarantine/b.jsonl.report.json").read_text())["findings"][0]["line"] == 1
