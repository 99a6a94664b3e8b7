"""What a device can do: the rate of its matrix products, and giving back its memory."""

import gc
import time

import torch


def matrix_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a square product in bf16; the fastest of some."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    best = float("inf")
    for _ in range(12):
        wait(device)
        started = time.perf_counter()
        left @ right
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
