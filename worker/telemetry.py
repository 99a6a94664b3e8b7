"""What the machine and the lane's GPU are doing: NVML where there is a GPU, psutil everywhere."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from app.gpus import Gpu

try:
    import pynvml
except ImportError:  # a worker without the NVIDIA bindings
    pynvml = None

Number = int | float | None


class Telemetry:
    """Readings of one lane, of its first GPU where it has several. What cannot be read is None; reading never fails."""

    def __init__(self, gpus: Sequence[Gpu], disk: Path) -> None:
        self._disk = disk
        self._gpu = gpus[0] if gpus else None
        self._handle: Any = None
        # The first call starts the interval that the next one is about.
        psutil.cpu_percent(None)

    def read(self) -> dict[str, Number]:
        """Bytes, percent (0-100), degrees Celsius and watts, by the names of the `telemetry` event."""
        memory = psutil.virtual_memory()
        machine: dict[str, Number] = {
            "ram_used": memory.total - memory.available,
            "ram_total": memory.total,
            "cpu_util": psutil.cpu_percent(None),
            "disk_free": _or_none(lambda: psutil.disk_usage(str(self._disk)).free, OSError),
        }
        return self._read_gpu() | machine

    def _read_gpu(self) -> dict[str, Number]:
        handle = self._open()
        if handle is None:
            return dict.fromkeys(("vram_used", "vram_total", "gpu_util", "temperature", "power"))
        reads: dict[str, Callable[[], Number]] = {
            "vram_used": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used,
            "vram_total": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            "gpu_util": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "temperature": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "power": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
        # One by one: a card in MIG mode or in a virtual machine knows some of them and not others.
        return {name: _or_none(read, pynvml.NVMLError) for name, read in reads.items()}

    def _open(self) -> Any:
        if self._handle is None and self._gpu is not None and pynvml is not None:
            uuid = self._gpu.uuid
            _or_none(pynvml.nvmlInit, pynvml.NVMLError)
            self._handle = _or_none(lambda: pynvml.nvmlDeviceGetHandleByUUID(uuid), pynvml.NVMLError)
        return self._handle


def _or_none(read: Callable[[], Any], failure: type[Exception]) -> Any:
    try:
        return read()
    except failure:
        return None
