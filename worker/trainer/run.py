"""One job from its specification to its adapter, read top to bottom."""

import errno
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from app.conversations.render import Renderer
from app.schemas import TINY_MODEL
from worker.trainer.atomic import list_files
from worker.trainer.back_off import RowBudget, is_out_of_memory, memory_code
from worker.trainer.base_files import check_base_model, read_json
from worker.trainer.checkpoint import Progress, adapter_tensors, load_adapter, read_checkpoint, restore_checkpoint
from worker.trainer.data import Data, load_data
from worker.trainer.export import export_adapter, versions
from worker.trainer.faults import Interrupted, JobFailed, Outcome
from worker.trainer.guardian import Guardian
from worker.trainer.identity import identity_of_job
from worker.trainer.images import Vision
from worker.trainer.job import Job
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.manifest import describe
from worker.trainer.memory import Meter, memory_text
from worker.trainer.model import (
    Trainee,
    add_lora,
    checkpoint_all_layers,
    checkpoint_layers,
    load_base,
    set_vision_aside,
)
from worker.trainer.parent import read_parent
from worker.trainer.plan import plan_memory
from worker.trainer.randomness import seed_all
from worker.trainer.resolve import Resolved, resolve, told
from worker.trainer.sample import Sampler
from worker.trainer.schedule import learning_rate, make_plan
from worker.trainer.self_check import check_attention
from worker.trainer.session import Session
from worker.trainer.tiny import build_tiny_model

# A model this narrow is done before a second thread has woken up.
NARROW = 256


@dataclass(frozen=True)
class Ended:
    outcome: Outcome
    step: int
    adapter: dict[str, Any] | None = None


def train(job: Job) -> Ended:
    """Carries out the job; raises `JobFailed`, or `Interrupted` if that came before the first step."""
    try:
        return _train(job)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise JobFailed(
            memory_code(),
            f"The memory of this machine is too small for this job: {str(error).splitlines()[0]}",
            "Lower row_tokens, max_length or lora_r, or choose a machine with more memory.",
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise JobFailed(
            "disk_full",
            f"The disk of {job.folder} is full.",
            "Free some space there, then resume the job from its last checkpoint.",
        ) from error


def _train(job: Job) -> Ended:
    spec, events, model_dir = job.spec, job.events, job.model_dir
    transformers_logging.disable_progress_bar()
    if spec.model == TINY_MODEL:
        build_tiny_model(model_dir)
    check_base_model(model_dir, spec.model)
    device = choose_device(model_dir)

    events.state("claimed", "tokenizing", "Turning records into tokens")
    renderer = Renderer.load(model_dir)
    data = load_data(spec, renderer, events, job.commands.poll)

    plan = make_plan(spec.config, len(data.train), data.shares)
    memory = plan_memory(job, data, device)
    meter = Meter.start(device, memory)
    resolved = resolve(spec.config, data, plan, memory)
    events.state("claimed", "planning", f"{resolved.num_steps:,} steps", resolved=told(resolved, memory))
    identity = identity_of_job(spec, renderer, len(data.train))
    resume = Path(spec.resume_path) if spec.resume_path else None
    progress = read_checkpoint(resume, identity) if resume else Progress()
    parent = read_parent(spec) if spec.from_adapter_path and not resume else None
    job.commands.poll()

    events.state("claimed", "loading", f"Loading the weights of {spec.model}")
    seed_all(spec.config.seed)
    trainee = load_trainee(job, device, resolved.checkpointed_layers, data.has_images)
    if parent is not None:
        load_adapter(trainee, parent)
        events.log(f"Going on from the adapter {(spec.from_adapter or {}).get('name')}, with a fresh optimizer")
    optimizer = make_optimizer(trainee, spec.config)
    best = restore_checkpoint(resume, trainee, optimizer) if resume else None
    job.commands.poll()

    guardian = Guardian(events, spec.config.guardian == "off", spec.config.max_grad_norm)
    guardian.saw_data(data)
    row_tokens = min(resolved.row_tokens, progress.row_tokens or resolved.row_tokens)
    budget = RowBudget(row_tokens, guardian.saw_memory_end, spare=partial(checkpoint_all_layers, trainee.base))
    eval_budget = RowBudget(resolved.row_tokens, guardian.saw_memory_end)
    stepper = make_stepper(job, trainee, optimizer, resolved, budget)
    first = [data.train[i] for i in plan.members(1)]
    check_attention(trainee, first, stepper.vision, budget.tokens, events.log)
    sampler = make_sampler(job, stepper, data, renderer)
    session = Session(
        job, data, plan, resolved, identity, stepper, eval_budget, sampler, progress, guardian, best, progress.step
    )
    again = f" again after step {progress.step:,}" if progress.step else ""
    events.state("running", "training", f"Training {resolved.num_steps:,} steps")
    events.log(f"Training started{again}")
    try:
        session.run()
    except Interrupted as end:
        if end.ask.save:
            events.state("running", "saving", f"Saving step {progress.step:,}", resolved=meter.told())
            session.save()
        return Ended(end.ask.outcome, progress.step)
    events.log(memory_text(device))
    events.log(meter.text())

    events.state("running", "saving", "Writing the adapter", resolved=meter.told())
    return Ended("succeeded", progress.step, write_adapter(session, renderer, meter))


def choose_device(model_dir: Path) -> torch.device:
    """CUDA if there is any; on a CPU also decides how many threads work."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.version.cuda and os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
        raise JobFailed(
            "driver_gone",
            "This lane's GPU cannot be used: the driver does not answer, or does not fit the installed torch.",
            "See whether `nvidia-smi` lists the card on that machine; restart the machine if it does not.",
        )
    hidden_size = read_json(model_dir / "config.json", model_dir.name)["text_config"]["hidden_size"]
    wanted = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(1 if hidden_size <= NARROW else wanted)
    return torch.device("cpu")


def load_trainee(job: Job, device: torch.device, checkpointed_layers: int, has_images: bool) -> Trainee:
    config = job.spec.config
    base = load_base(job.model_dir, config.use_qlora, device)
    if not has_images:
        set_vision_aside(base)
    trainee = add_lora(base, config, device, job.spec.model)
    checkpoint_layers(base, checkpointed_layers)
    percent = 100 * trainee.num_trainable / trainee.num_parameters
    job.events.log(
        f"Trainable parameters: {trainee.num_trainable:,} of {trainee.num_parameters:,} ({percent:.3f} %), "
        f"base in {'4 bits' if config.use_qlora else 'bf16'} on {versions(device)['device']}"
    )
    return trainee


def make_stepper(
    job: Job, trainee: Trainee, optimizer: torch.optim.Optimizer, resolved: Resolved, budget: RowBudget
) -> Stepper:
    config = job.spec.config
    return Stepper(
        trainee=trainee,
        optimizer=optimizer,
        config=config,
        vision=Vision(job.model_dir, config.min_pixels, config.max_pixels),
        rate=learning_rate(config, resolved.num_steps),
        budget=budget,
        poll=job.commands.poll,
    )


def make_sampler(job: Job, stepper: Stepper, data: Data, renderer: Renderer) -> Sampler:
    """Asks the first examples whose last answer can be asked for: validation, else training ones."""
    vision, count = stepper.vision, job.spec.config.sample_prompts
    fitting = (
        one
        for one in data.validation or data.train
        if one.last_answer() > 0 and not (one.ids[one.last_answer() :] == vision.image_token).any()
    )
    asked = [one for one, _ in zip(fitting, range(count), strict=False)]
    return Sampler(stepper.trainee, asked, vision, renderer.decode, renderer.eos_id, job.commands.poll)


def write_adapter(session: Session, renderer: Renderer, meter: Meter) -> dict[str, Any]:
    """The last step's weights; after early stopping was asked for, the best evaluation's."""
    job, progress, trainee = session.job, session.progress, session.stepper.trainee
    step, validation_loss, tensors = progress.step, progress.eval_loss, adapter_tensors(trainee)
    if session.best is not None:
        step, validation_loss, tensors = progress.best_step, progress.best_loss, session.best
    spec, folder = job.spec, job.folder / "adapter"
    manifest = describe(session, renderer, step, validation_loss, meter)
    export_adapter(folder, trainee, tensors, manifest)
    if spec.output_path:
        shutil.copytree(folder, spec.output_path, dirs_exist_ok=True)
    files = list_files(folder)
    size = sum(one["size"] for one in files)
    return {"name": spec.name, "step": step, "model": spec.model, "size": size, "files": files, "manifest": manifest}
