from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import gpus as gpus_module
from app.errors import WrongInput
from app.gpus import Gpu, find_gpus, gpus_of_lane, lane_indices, lane_names, visible
from worker import telemetry as telemetry_module
from worker.telemetry import Telemetry

GPUS = [Gpu(0, "GPU-aa", "H200", 1000), Gpu(1, "GPU-bb", "H200", 1000)]


class NvmlError(Exception):
    pass


def unsupported(handle: object) -> Any:
    raise NvmlError


def nvml(**changes: Any) -> SimpleNamespace:
    """NVML with one card that knows all but its power."""
    known: dict[str, Any] = {
        "NVMLError": NvmlError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUUID": lambda handle: "GPU-aa",
        "nvmlDeviceGetName": lambda handle: "H200",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=400, total=1000),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97),
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        "nvmlDeviceGetPowerUsage": unsupported,
    }
    return SimpleNamespace(**(known | changes))


def test_a_figure_that_a_card_does_not_know_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(telemetry_module, "pynvml", nvml())
    figures = Telemetry(GPUS, tmp_path).read()
    assert (figures["vram_used"], figures["gpu_util"], figures["temperature"]) == (400, 97, 61)
    assert figures["power"] is None


def test_a_driver_that_went_away_leaves_the_machine_s_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(telemetry_module, "pynvml", nvml(nvmlDeviceGetHandleByUUID=unsupported))
    figures = Telemetry(GPUS, tmp_path).read()
    assert figures["vram_used"] is None and figures["ram_total"]


def test_each_gpu_is_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus_module, "pynvml", nvml())
    assert lane_names() == ["gpu0"]
    assert gpus_of_lane("gpu0") == [Gpu(0, "GPU-aa", "H200", 1000)]
    assert gpus_of_lane("cpu") == []


@pytest.mark.parametrize(
    ("gpus", "lanes", "names"),
    [
        ("", "", ["gpu0", "gpu1"]),
        ("1", "", ["gpu1"]),
        ("0,1", "", ["gpu0", "gpu1"]),
        ("", "0,1", ["gpu0+1"]),
        ("", "1; 0", ["gpu1", "gpu0"]),
        ("", "0,1;cpu", ["gpu0+1", "cpu"]),
        ("", "cpu;cpu-2", ["cpu", "cpu-2"]),
    ],
)
def test_gpus_are_grouped_into_lanes(monkeypatch: pytest.MonkeyPatch, gpus: str, lanes: str, names: list[str]) -> None:
    monkeypatch.setattr(gpus_module, "find_gpus", lambda: GPUS)
    assert lane_names(gpus, lanes) == names
    assert [len(gpus_of_lane(name)) for name in names] == [len(lane_indices(name)) for name in names]


@pytest.mark.parametrize(
    ("gpus", "lanes"), [("2", ""), ("a", ""), ("0,0", ""), ("", "0;0,1"), ("", ";"), ("", "cpu;cpu")]
)
def test_lanes_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, gpus: str, lanes: str) -> None:
    monkeypatch.setattr(gpus_module, "find_gpus", lambda: GPUS)
    with pytest.raises(WrongInput):
        lane_names(gpus, lanes)


def test_a_group_is_read_by_its_first_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []
    monkeypatch.setattr(telemetry_module, "pynvml", nvml(nvmlDeviceGetHandleByUUID=seen.append))
    Telemetry(GPUS[::-1], tmp_path).read()
    assert seen == ["GPU-bb"]


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount"])
def test_without_a_working_driver_there_is_one_cpu_lane(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail() -> None:
        raise NvmlError

    monkeypatch.setattr(gpus_module, "pynvml", nvml(**{broken: fail}))
    assert (find_gpus(), lane_names()) == ([], ["cpu"])


@pytest.mark.parametrize(
    ("wanted", "left"),
    [(None, [0, 1]), ("1", [1]), ("1,0", [1, 0]), ("GPU-b", [1]), ("", []), ("-1", []), ("0,7,1", [0])],
)
def test_only_visible_gpus_become_lanes(wanted: str | None, left: list[int]) -> None:
    assert [gpu.index for gpu in visible(GPUS, wanted)] == left
