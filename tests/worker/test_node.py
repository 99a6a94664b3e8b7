import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.gpus import Gpu
from tests.waiting import until
from tests.worker.fake_server import FakeServer
from worker import node as node_module
from worker.node import Heart, describe_node, instance_of

GPU = Gpu(1, "GPU-abc", "H200", 140 << 30)


@pytest.fixture
def heart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heart]:
    monkeypatch.setattr(node_module, "BEAT_S", 0.05)
    made = Heart(settings, [], lambda: False)
    made.start()
    yield made
    made.stop()


def test_a_gpu_lane_tells_what_it_has(settings: Settings) -> None:
    told = describe_node(settings.model_copy(update={"lane": "gpu1", "labels": "big, fast"}), [GPU])
    [lane] = told["lanes"]
    assert (told["name"], lane["name"], lane["kind"]) == ("here", "gpu1", "gpu")
    assert lane["gpus"] == [{"name": "H200", "memory": 140 << 30}]
    assert lane["labels"] == ["big", "fast"]


def test_a_work_directory_is_told_from_every_other(tmp_path: Path) -> None:
    assert instance_of(tmp_path / "a") == instance_of(tmp_path / "a") != instance_of(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["instance"]


def test_versions_are_told(settings: Settings) -> None:
    assert {"python", "celery"} <= describe_node(settings, [])["versions"].keys()


def test_a_heart_waits_for_the_control_center(
    server: FakeServer, heart: Heart, caplog: pytest.LogCaptureFixture
) -> None:
    server.away = True
    until(lambda: server.refusals > 3)
    server.away = False
    known = len(server.beats)
    until(lambda: len(server.beats) > known)
    assert (len(server.nodes), caplog.text.count("does not take the beat")) == (1, 1)


def test_a_beat_carries_the_machine_s_figures(server: FakeServer, heart: Heart) -> None:
    until(lambda: server.beats)
    figures = server.beats[0]["telemetry"]
    assert 0 < figures["ram_used"] < figures["ram_total"] and figures["disk_free"] > 0
    assert figures["vram_used"] is None


def test_a_node_that_was_forgotten_registers_anew(server: FakeServer, heart: Heart) -> None:
    until(lambda: server.beats)
    server.forgetful = True
    until(lambda: len(server.nodes) > 1)
    server.forgetful = False
    known = len(server.beats)
    until(lambda: len(server.beats) > known + 1)


def test_a_lane_that_ends_says_so_and_beats_no_more(server: FakeServer, heart: Heart) -> None:
    until(lambda: server.beats)
    heart.leave()
    known = list(server.beats)
    assert known[-1] == {"lane": "cpu"}
    time.sleep(0.2)
    assert server.beats == known


def test_a_lane_ends_although_nobody_hears_it(server: FakeServer, heart: Heart) -> None:
    until(lambda: server.beats)
    server.away = True
    heart.leave()
    assert server.refusals


def test_another_version_is_said_once_and_asked_for_rarely(
    server: FakeServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_module, "BEAT_S", 0.02)
    monkeypatch.setattr(node_module, "REFUSED_S", 0.3)
    asked: list[Any] = []
    told = {"error": {"code": "other_version", "message": "The worker on here is version 1, this control center is 2"}}

    def refuse(parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return 409, told

    monkeypatch.setattr(server, "_node", refuse)
    heart = Heart(settings, [], lambda: False)
    heart.start()
    until(lambda: len(asked) > 1)
    heart.stop()
    assert caplog.text.count("version 1, this control center is 2") == 1
    assert len(asked) < 5 and "versions" in asked[-1] and asked[-1]["time"] > 0


def test_a_drain_is_heard_and_its_end_too(
    server: FakeServer, heart: Heart, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="worker.node")
    monkeypatch.setattr(server, "_node", lambda parts, body: (200, {"drain": True, "id": 1}))
    until(lambda: "takes no more jobs" in caplog.text)
    monkeypatch.setattr(server, "_node", lambda parts, body: (200, {"drain": False, "id": 1}))
    until(lambda: "takes jobs again" in caplog.text)
