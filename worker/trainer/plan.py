"""The memory of a job, planned before its weights are read, and held against what was measured at its end."""

import torch

from app.geometry import Geometry, read_geometry
from app.planner import Lengths, MemoryPlan, make_plan, would_fit
from worker.trainer.base_files import read_json
from worker.trainer.data import Data
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example
from worker.trainer.job import Job
from worker.trainer.memory import GIB, free_memory


def plan_memory(job: Job, data: Data, device: torch.device) -> MemoryPlan:
    """Chooses rows and recomputed layers, and says so; raises `JobFailed` if the job cannot fit."""
    geometry, config = geometry_of(job), job.spec.config
    lengths, on_gpu = lengths_of([*data.train, *data.validation]), device.type == "cuda"
    available = free_memory(device)
    plan = make_plan(config, lengths, geometry, available, on_gpu)
    if plan.fits is False and available is not None:
        raise does_not_fit(plan, available, would_fit(config, lengths, geometry, available, on_gpu))
    job.events.log(sentence(plan, geometry, available, on_gpu))
    return plan


def geometry_of(job: Job) -> Geometry:
    found = read_geometry(read_json(job.model_dir / "config.json", job.spec.model))
    if found is None:
        raise JobFailed(
            "model_incomplete",
            f"config.json of the base model {job.spec.model} lacks sizes of a Qwen3-VL.",
            "Download the model again, or choose another base model.",
        )
    return found


def lengths_of(examples: list[Example]) -> Lengths:
    """Of all examples, evaluated ones included. The row that counts is the one with the most patches a token."""
    tokens = sum(one.num_tokens for one in examples)
    return Lengths(
        longest=max(one.num_tokens for one in examples),
        mean=tokens / len(examples),
        target_share=sum(one.num_targets for one in examples) / tokens,
        patch_share=max(sum(t * h * w for t, h, w in one.grids) / one.num_tokens for one in examples),
    )


def sentence(plan: MemoryPlan, geometry: Geometry, available: int | None, on_gpu: bool) -> str:
    free = "an unknown amount" if available is None else f"{available / GIB:.1f} GB"
    also = ". A bf16 base would fit as well: use_qlora false is faster" if on_gpu and plan.bf16_fits else ""
    return (
        f"Memory plan: {plan.memory.total / GIB:.2f} GB of {free} free, rows of up to {plan.row_tokens:,} tokens, "
        f"{plan.checkpointed_layers} of {geometry.layers} layers recomputed{also}"
    )


def does_not_fit(plan: MemoryPlan, available: int, found: list[dict[str, object]]) -> JobFailed:
    shown = [f"{_words(one['config'])} ({_gib(one['total'])})" for one in found[:4]]
    return JobFailed(
        "does_not_fit",
        f"This job needs {_gib(plan.memory.total)} of memory, and {_gib(available)} are free.",
        f"This would fit: {'; or '.join(shown)}." if shown else "Choose a machine with more memory.",
    )


def _words(changes: object) -> str:
    assert isinstance(changes, dict)
    return ", ".join(f"{key} {str(value).lower()}" for key, value in changes.items())


def _gib(size: object) -> str:
    assert isinstance(size, int)
    return f"{size / GIB:.2f} GB"
