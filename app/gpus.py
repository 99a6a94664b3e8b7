"""The GPUs of this machine, found through NVML, so that no process needs torch to count them."""

import os
import re
from dataclasses import dataclass
from typing import Any

from app.errors import WrongInput

try:
    import pynvml
except ImportError:  # a machine with the web side alone
    pynvml = None


GPU_LANE = re.compile(r"gpu(\d+(?:\+\d+)*)")
CPU_LANE = re.compile(r"cpu[\w-]*")


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


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    if pynvml is None:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


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


def lane_names(gpus: str = "", lanes: str = "") -> list[str]:
    """The lanes of this machine; raises `WrongInput` for GPUs that are not there.

    `lanes` groups GPUs ("0;1,2": `gpu0` and `gpu1+2`), `gpus` gives each one named a lane ("0,1"). Without either, each
    GPU is a lane, and `cpu` is the only one where there is none. A word that begins with `cpu` is a lane without a GPU.
    """
    found = find_gpus()
    if not gpus and not lanes:
        return [f"gpu{gpu.index}" for gpu in found] or ["cpu"]
    groups = lanes.split(";") if lanes else gpus.split(",")
    names = [_lane_name([one.strip() for one in group.split(",")], found) for group in groups if group.strip()]
    taken = [index for name in names for index in lane_indices(name)]
    if not names or len(set(taken)) < len(taken) or len(set(names)) < len(names):
        raise WrongInput(f"The lanes {lanes or gpus!r} name a GPU twice, or none.")
    return names


def _lane_name(members: list[str], found: list[Gpu]) -> str:
    if len(members) == 1 and CPU_LANE.fullmatch(members[0]):
        return members[0]
    there = [str(gpu.index) for gpu in found]
    for one in members:
        if one not in there:
            has = f"it has {', '.join(there)}" if there else "it has none that can be used"
            raise WrongInput(f"There is no GPU {one!r} on this machine: {has}.")
    return "gpu" + "+".join(members)


def lane_indices(lane: str) -> list[int]:
    """The numbers of the GPUs that a lane's name stands for: `gpu1+2` is 1 and 2, `cpu` none."""
    match = GPU_LANE.fullmatch(lane)
    return [int(one) for one in match[1].split("+")] if match else []


def gpus_of_lane(lane: str) -> list[Gpu]:
    """The GPUs that a lane's name stands for, in its order; one that is not there is left out."""
    wanted = lane_indices(lane)
    by_index = {gpu.index: gpu for gpu in find_gpus()} if wanted else {}
    return [by_index[index] for index in wanted if index in by_index]


def _describe(index: int) -> Gpu:
    handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(index, pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), memory)
