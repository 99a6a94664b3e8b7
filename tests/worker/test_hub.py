import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.config import Settings
from tests.worker.fake_server import FakeServer
from worker import hub, prepare
from worker.base_models import BaseModel
from worker.cache import Cache
from worker.client import Client
from worker.faults import PreparationFailed
from worker.messages import Claim
from worker.prepare import Preparation


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def answer_with(monkeypatch: pytest.MonkeyPatch, total: int = 10, error: Exception | None = None) -> list[Any]:
    """Puts a hub in the place of the real one; the patterns that were asked for."""
    asked: list[Any] = []

    def model_info(self: object, repository: str, **options: object) -> Any:
        if error is not None:
            raise error
        sizes = {"a.safetensors": total, "pytorch_model.bin": 10**15}
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in sizes.items()])

    def download(repository: str, allow_patterns: list[str], **options: object) -> str:
        if options.get("local_files_only"):
            raise FileNotFoundError
        asked.append(allow_patterns)
        return f"/models/{options['revision']}"

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(hub, "snapshot_download", download)
    return asked


def test_a_model_is_fetched_at_one_commit_and_without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch)
    assert hub.fetch("Qwen/new") == {"path": "/models/abc", "revision": "abc"}
    assert asked == [["*.safetensors", "*.json", "*.jinja", "*.txt"]]


def test_a_model_larger_than_the_disk_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, total=10**18)
    assert hub.fetch("Qwen/huge")["error"]["code"] == "disk_full"
    assert asked == []


def test_a_hub_out_of_reach_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, error=hub.HTTPError("no route"))
    told = hub.fetch("Qwen/new")["error"]
    assert told["code"] == "model_missing" and "cannot be reached" in told["message"]


def preparation(server: FakeServer, client: Client, settings: Settings, folder: Path, told: list[str]) -> Preparation:
    claim = Claim.model_validate(server.offer(model="Qwen/new"))
    job = client.job(7, 1, "token-1")
    allowed = settings.model_copy(update={"hub": True})
    cache = Cache(folder, 10**9)
    return Preparation(claim, job, allowed, folder, lambda phase, message: told.append(message), cache)


def stand_in(monkeypatch: pytest.MonkeyPatch, *lines: dict[str, Any]) -> None:
    """A download process that prints these lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    popen = subprocess.Popen
    monkeypatch.setattr(
        prepare.subprocess, "Popen", lambda command, **options: popen(["printf", "%s", text], **options)
    )


def test_progress_of_a_download_is_told(
    server: FakeServer, client: Client, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, {"done": 5 * 10**9, "total": 10**10}, {"path": "/models/abc", "revision": "abc"})
    told: list[str] = []
    assert preparation(server, client, settings, tmp_path, told)._download("Qwen/new") == BaseModel(
        Path("/models/abc"), "abc"
    )
    assert told[-1] == "Downloading Qwen/new: 5.0 of 10.0 GB (50 %)"


@pytest.mark.parametrize(
    ("line", "code"),
    [({"error": {"code": "model_gated", "message": "m", "advice": "a"}}, "model_gated"), ({}, "download_failed")],
)
def test_a_download_that_fails_says_why(
    server: FakeServer,
    client: Client,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: dict[str, Any],
    code: str,
) -> None:
    stand_in(monkeypatch, line)
    with pytest.raises(PreparationFailed) as caught:
        preparation(server, client, settings, tmp_path, [])._download("Qwen/new")
    assert caught.value.code == code
