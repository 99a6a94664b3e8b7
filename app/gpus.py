"""The GPUs of this machine, found through NVML, so that no process needs torch to count them."""

import os
from dataclasses import dataclass
from typing import Any

try:
    import pynvml
except ImportError:  # a machine with the web side alone
    pynvml = None


@dataclass(frozen=True)
class Gpu:
    """`memory` in bytes; `uuid` is what CUDA_VISIBLE_DEVICES takes."""

    index: int
    uuid: str
    name: str
    memory: int


def find_gpus() -> list[Gpu]:
    """All GPUs that CUDA_VISIBLE_DEVICES leaves visible; none where there is no driver."""
    if pynvml is None:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = [_describe(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
    return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(gpus: list[Gpu], wanted: str | None) -> list[Gpu]:
    """The GPUs that a CUDA_VISIBLE_DEVICES of this value (numbers or the beginnings of uuids) leaves."""
    if wanted is None:
        return gpus
    chosen = []
    for entry in (part.strip() for part in wanted.split(",")):
        match = [gpu for gpu in gpus if entry and (entry == str(gpu.index) or gpu.uuid.startswith(entry))]
        if not match:
            # CUDA ignores everything from the first wrong entry on.
            break
        chosen.append(match[0])
    return chosen


def lane_names() -> list[str]:
    """One lane a GPU, `gpu0`, `gpu1`, ... by NVML index; `cpu` alone where there is none."""
    return [f"gpu{gpu.index}" for gpu in find_gpus()] or ["cpu"]


def gpu_of_lane(lane: str) -> Gpu | None:
    """The GPU that a lane name stands for; None for `cpu` and for a GPU that is not there."""
    return next((gpu for gpu in find_gpus() if f"gpu{gpu.index}" == lane), None)


def _describe(index: int) -> Gpu:
    handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(index, pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), memory)
