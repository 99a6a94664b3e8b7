from collections.abc import Iterator

import pytest

from app.config import Settings
from app.gpus import Gpu
from tests.worker.conftest import until
from tests.worker.fake_server import FakeServer
from worker import node as node_module
from worker.node import Heart, describe_node

GPU = Gpu(1, "GPU-abc", "H200", 140 << 30)


@pytest.fixture
def heart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heart]:
    monkeypatch.setattr(node_module, "BEAT_S", 0.05)
    made = Heart(settings, None, lambda: False)
    made.start()
    yield made
    made.stop()


def test_a_gpu_lane_tells_what_it_has(settings: Settings) -> None:
    told = describe_node(settings.model_copy(update={"lane": "gpu1"}), GPU)
    [lane] = told["lanes"]
    assert (told["name"], lane["name"], lane["kind"]) == ("here", "gpu1", "gpu")
    assert lane["gpus"] == [{"name": "H200", "memory": 140 << 30}]


def test_versions_are_told(settings: Settings) -> None:
    assert {"python", "celery"} <= describe_node(settings, None)["versions"].keys()


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
