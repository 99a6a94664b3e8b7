"""Save and resume: adapter, optimizer, generators and progress in one folder that is there whole or not at all."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.trainer.atomic import list_files, publish_dir, sha256_of, write_json
from worker.trainer.faults import JobFailed
from worker.trainer.model import Trainee
from worker.trainer.randomness import everything, restore_everything

ADAPTER, STATE, BEST, DESCRIPTION = "adapter.safetensors", "state.pt", "best.safetensors", "checkpoint.json"


@dataclass
class Progress:
    """What a job knows about itself at a step; a part of every checkpoint."""

    step: int = 0
    loss: float | None = None
    eval_step: int = 0
    eval_loss: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    evals_without_gain: int = 0
    sample_step: int = 0
    row_tokens: int | None = None  # set once memory ran out: the same rows, and so the same dropout, when resumed


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def adapter_tensors(trainee: Trainee) -> dict[str, Tensor]:
    """The adapter under PEFT's own names, on the CPU, apart from the weights that go on being trained."""
    tensors = get_peft_model_state_dict(trainee.peft, save_embedding_layers=False)
    return {name: one.detach().to("cpu", copy=True).contiguous() for name, one in tensors.items()}


def save_checkpoint(
    folder: Path,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    identity: dict[str, Any],
    best: dict[str, Tensor] | None = None,
) -> Path:
    """Writes `folder/step-N` under a temporary name first. Does nothing if that step is already there."""
    final = folder / folder_name(progress.step)
    if final.exists():
        return final
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(adapter_tensors(trainee), temporary / ADAPTER, metadata={"format": "pt"})
    if best is not None:
        save_file(best, temporary / BEST, metadata={"format": "pt"})
    torch.save({"optimizer": optimizer.state_dict(), "generators": everything()}, temporary / STATE)
    hashes = {one["path"]: one["sha256"] for one in list_files(temporary)}
    description = {"step": progress.step, "progress": asdict(progress), "identity": identity, "files": hashes}
    write_json(temporary / DESCRIPTION, description)
    publish_dir(temporary, final)
    return final


def read_checkpoint(path: Path, identity: dict[str, Any]) -> Progress:
    """Progress of a checkpoint that is whole and belongs to this very job; raises `JobFailed` otherwise."""
    try:
        description = json.loads((path / DESCRIPTION).read_text("utf-8"))
        hashes, theirs, progress = description["files"], description["identity"], Progress(**description["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"{DESCRIPTION} cannot be read ({error})") from None
    for name, wanted in hashes.items():
        if not (path / name).is_file():
            raise broken(path, f"{name} is missing")
        if sha256_of(path / name) != wanted:
            raise broken(path, f"{name} is not what was saved")
    refuse_differences(theirs, identity)
    return progress


def restore_checkpoint(path: Path, trainee: Trainee, optimizer: torch.optim.Optimizer) -> dict[str, Tensor] | None:
    """Puts weights, optimizer and generators back; answers the best weights so far, where they were kept.

    Only for a folder that `read_checkpoint` accepted.
    """
    load_adapter(trainee, load_file(path / ADAPTER))
    state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    restore_everything(state["generators"])
    return load_file(path / BEST) if (path / BEST).exists() else None


def load_adapter(trainee: Trainee, tensors: dict[str, Tensor]) -> None:
    """Every trained weight from `tensors`, and nothing else in them."""
    if tensors.keys() != adapter_tensors(trainee).keys():
        raise JobFailed(
            "checkpoint_mismatch",
            "The checkpoint's adapter has other layers than this job's.",
            "Start the job anew instead of resuming it.",
        )
    set_peft_model_state_dict(trainee.peft, tensors)


def refuse_differences(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raises `JobFailed` that names everything in which a checkpoint is of another job."""
    found = differences(theirs, ours)
    if found:
        raise JobFailed(
            "checkpoint_mismatch",
            f"The checkpoint belongs to another job: {'; '.join(found)}.",
            "Resume the job it was made by, or start this job anew.",
        )


def differences(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        here, there = ours.get(key), theirs.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(there, here, f"{prefix}{key}.")
        elif here != there:
            found.append(f"{prefix}{key} is {_short(there)} in the checkpoint and {_short(here)} here")
    return found


def keep_only(folder: Path, newest: int, best_step: int | None) -> None:
    """Removes all but the newest checkpoints and the best one."""
    saved = sorted(one for one in folder.glob("step-*") if one.is_dir())
    for path in saved[:-newest]:
        if best_step is None or path.name != folder_name(best_step):
            shutil.rmtree(path)


def broken(path: Path, why: str) -> JobFailed:
    return JobFailed(
        "checkpoint_broken",
        f"The checkpoint {path.name} is damaged: {why}.",
        "Resume from an earlier checkpoint, or start the job anew.",
    )


def _short(value: Any) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
