"""One job from its specification to its adapter, read top to bottom."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from app.conversations.render import Renderer
from app.schemas import TINY_MODEL, JobSpec
from worker.trainer.atomic import list_files
from worker.trainer.base_files import check_base_model, num_layers, read_json
from worker.trainer.checkpoint import Progress, adapter_tensors, read_checkpoint, restore_checkpoint
from worker.trainer.commands import Commands
from worker.trainer.data import Data, load_data
from worker.trainer.events import EventLog
from worker.trainer.export import export_adapter, versions
from worker.trainer.faults import Interrupted, JobFailed, Outcome
from worker.trainer.identity import identity_of_job
from worker.trainer.images import Example, Vision
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.manifest import describe
from worker.trainer.memory import memory_text
from worker.trainer.model import Trainee, add_lora, checkpoint_layers, load_base
from worker.trainer.randomness import seed_all
from worker.trainer.resolve import resolve
from worker.trainer.sample import Sampler
from worker.trainer.schedule import learning_rate, make_plan
from worker.trainer.session import Session
from worker.trainer.tiny import build_tiny_model

# A model this narrow is done before a second thread has woken up.
NARROW = 256


@dataclass(frozen=True)
class Ended:
    outcome: Outcome
    step: int
    adapter: dict[str, Any] | None = None


def train(spec: JobSpec, folder: Path, events: EventLog, commands: Commands) -> Ended:
    """Carries out the job; raises `JobFailed`, or `Interrupted` if that came before the first step."""
    try:
        return _train(spec, folder, events, commands)
    except torch.OutOfMemoryError as error:
        raise JobFailed(
            "out_of_memory",
            f"The memory of this machine is too small for this job: {str(error).splitlines()[0]}",
            "Lower row_tokens, max_length or lora_r, or choose a machine with more memory.",
        ) from error


def _train(spec: JobSpec, folder: Path, events: EventLog, commands: Commands) -> Ended:
    config, model_dir = spec.config, Path(spec.model_path)
    transformers_logging.disable_progress_bar()
    if spec.model == TINY_MODEL:
        build_tiny_model(model_dir)
    check_base_model(model_dir, spec.model)
    device = choose_device(model_dir)

    events.state("claimed", "tokenizing", "Turning records into tokens")
    renderer = Renderer.load(model_dir)
    data = load_data(spec, renderer, events, commands.poll)

    plan = make_plan(config, len(data.train))
    resolved = resolve(config, data, plan, num_layers(model_dir), device.type == "cuda")
    events.state("claimed", "planning", f"{resolved.num_steps:,} steps", resolved=resolved.as_json())
    identity = identity_of_job(spec, renderer, len(data.train))
    resume = Path(spec.resume_path) if spec.resume_path else None
    progress = read_checkpoint(resume, identity) if resume else Progress()
    commands.poll()

    events.state("claimed", "loading", f"Loading the weights of {spec.model}")
    seed_all(config.seed)
    trainee = load_trainee(spec, device, resolved.checkpointed_layers, events)
    optimizer = make_optimizer(trainee, config)
    best = restore_checkpoint(resume, trainee, optimizer) if resume else None
    commands.poll()

    vision = Vision(model_dir, config.min_pixels, config.max_pixels)
    stepper = Stepper(
        trainee=trainee,
        optimizer=optimizer,
        config=config,
        vision=vision,
        rate=learning_rate(config, resolved.num_steps),
        row_tokens=resolved.row_tokens,
        poll=commands.poll,
        on_back_off=lambda step, tokens: events.log(
            f"Out of memory in step {step:,}: rows hold {tokens:,} tokens from now on", level="warning"
        ),
    )
    asked = sample_examples(data, config.sample_prompts, vision)
    sampler = Sampler(trainee, asked, vision, renderer.decode, renderer.eos_id, commands.poll)
    at = progress.step
    session = Session(
        config,
        folder,
        events,
        commands,
        data,
        plan,
        resolved,
        identity,
        stepper,
        sampler,
        progress,
        best,
        saved_step=at,
    )
    events.state("running", "training", f"Training {resolved.num_steps:,} steps")
    events.log("Training started" if not at else f"Training started again after step {at:,}")
    try:
        session.run()
    except Interrupted as end:
        if end.ask.save:
            events.state("running", "saving", f"Saving the state after step {progress.step:,}")
            session.save()
        return Ended(end.ask.outcome, progress.step)
    events.log(memory_text(device))

    events.state("running", "saving", "Writing the adapter")
    adapter = write_adapter(spec, session, trainee, renderer, folder / "adapter")
    return Ended("succeeded", progress.step, adapter)


def choose_device(model_dir: Path) -> torch.device:
    """CUDA if there is any; on a CPU also decides how many threads work."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        return torch.device("cuda", torch.cuda.current_device())
    hidden_size = read_json(model_dir / "config.json", model_dir.name)["text_config"]["hidden_size"]
    wanted = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(1 if hidden_size <= NARROW else wanted)
    return torch.device("cpu")


def load_trainee(spec: JobSpec, device: torch.device, checkpointed: int, events: EventLog) -> Trainee:
    base = load_base(Path(spec.model_path), spec.config.use_qlora, device)
    trainee = add_lora(base, spec.config, device, spec.model)
    checkpoint_layers(base, checkpointed)
    percent = 100 * trainee.num_trainable / trainee.num_parameters
    events.log(
        f"Trainable parameters: {trainee.num_trainable:,} of {trainee.num_parameters:,} ({percent:.3f} %), "
        f"base in {'4 bits' if spec.config.use_qlora else 'bf16'} on {versions(device)['device']}"
    )
    return trainee


def sample_examples(data: Data, count: int, vision: Vision) -> list[Example]:
    """The first examples whose last answer can be asked for: validation, else training ones."""
    fitting = (
        one
        for one in data.validation or data.train
        if one.last_answer() > 0 and not (one.ids[one.last_answer() :] == vision.image_token).any()
    )
    return [one for one, _ in zip(fitting, range(count), strict=False)]


def write_adapter(
    spec: JobSpec, session: Session, trainee: Trainee, renderer: Renderer, folder: Path
) -> dict[str, Any]:
    """The last step's weights; after early stopping was asked for, the best evaluation's."""
    progress, step, tensors = session.progress, session.progress.step, adapter_tensors(trainee)
    validation_loss = progress.eval_loss
    if session.best is not None:
        step, tensors, validation_loss = progress.best_step, session.best, progress.best_loss
    manifest = describe(spec, session, renderer, step, validation_loss)
    export_adapter(folder, trainee, tensors, manifest)
    if spec.output_path:
        shutil.copytree(folder, spec.output_path, dirs_exist_ok=True)
    files = list_files(folder)
    size = sum(one["size"] for one in files)
    return {"name": spec.name, "step": step, "model": spec.model, "size": size, "files": files, "manifest": manifest}
