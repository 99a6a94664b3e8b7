"""What a job will take before anybody trains it: memory, time, disk and steps, from what this control center knows."""

from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.conversations.split import choose_validation, draws, kept_aside
from app.estimate import tokens_per_second
from app.geometry import Geometry
from app.models import HELD, Dataset, Job, JobState, Lane, Metric
from app.planner import Lengths, MemoryPlan, make_plan, would_fit
from app.schemas import TrainingConfig
from app.services import jobs, room, waiting
from app.services.base_models import BaseModels
from app.services.new_job import NewJob

# Without a job that has counted: three characters a token, and what a template puts around a turn.
CHARACTERS_PER_TOKEN, TOKENS_PER_TURN = 3.0, 5
# A photo of a million pixels; patches stand four to a token, each of 16 x 16 pixels.
TOKENS_PER_IMAGE, PATCHES_PER_TOKEN, PIXELS_PER_TOKEN = 1000, 4, 1024
# Of a card for its context; of a machine for a process that has loaded torch.
OUTSIDE_GPU, OUTSIDE_CPU = 600 * 2**20, 450 * 2**20
Sources = list[tuple[Dataset, float]]
PARTS = ("weights", "adapter", "optimizer", "activations", "head", "images", "total")


def of_new_job(session: Session, models: BaseModels, new: NewJob, config: TrainingConfig) -> dict[str, Any]:
    """The answer to `POST /api/estimate`; raises what making the job would raise."""
    config = jobs.checked(session, new, config)
    mixed = [one.model_dump() for one in new.datasets] if new.datasets else None
    return estimate(session, models, _sources(session, new.dataset_id, mixed), new.model, config)


def attach(session: Session, models: BaseModels, job: Job) -> Job:
    """Keep with a new job what it is expected to take; raises `DiskFull` where the disk has no room for it."""
    sources = _sources(session, job.dataset_id, job.datasets)
    job.estimate = estimate(session, models, sources, job.model, TrainingConfig(**job.config))
    room.require(session, job)
    session.add(job)
    return job


def renew(session: Session, models: BaseModels, dataset: Dataset) -> None:
    """Once a dataset is counted, the jobs that were made before know their steps, their time and their memory."""
    for job in jobs.in_queue_order(session):
        if dataset.id in waiting.dataset_ids(job):
            sources = _sources(session, job.dataset_id, job.datasets)
            # What it will write here was settled when it was made.
            kept = {name: value for name, value in (job.estimate or {}).items() if name == "disk_here"}
            job.estimate = estimate(session, models, sources, job.model, TrainingConfig(**job.config)) | kept
            session.add(job)
            jobs.announce_queue(session, job)


def _sources(session: Session, dataset_id: int, mixed: list[dict[str, Any]] | None) -> Sources:
    chosen = [(one["id"], float(one["weight"])) for one in mixed] if mixed else [(dataset_id, 1.0)]
    return [(session.get_one(Dataset, number), weight) for number, weight in chosen]


def estimate(
    session: Session, models: BaseModels, sources: Sources, model: str, config: TrainingConfig
) -> dict[str, Any]:
    """As the contract shows it; of several datasets the largest one's lengths count.

    What cannot be known is null: no lane yet, a model whose files are not here.
    """
    geometry, lane = models.geometry(model), largest_lane(session)
    on_gpu = lane is not None and bool(lane.gpus)
    available = None if lane is None else available_memory(session, lane)
    earlier = newest_finished(session, model)
    largest = max((dataset for dataset, _ in sources), key=lambda dataset: dataset.size)
    lengths = lengths_of(session, largest, config, earlier)
    num_steps = steps_of(sources, config)
    plan = None
    found: dict[str, Any] = {"memory": dict.fromkeys(PARTS), "fits": None, "disk": None, "would_fit": []}
    if geometry is not None:
        counted_on = None if available is None else available - (OUTSIDE_GPU if on_gpu else OUTSIDE_CPU)
        plan = make_plan(config, lengths, geometry, counted_on, on_gpu)
        found = _memory(plan) | {"disk": disk_of(plan, geometry, config), "would_fit": []}
        if plan.fits is False and counted_on is not None:
            found["would_fit"] = would_fit(config, lengths, geometry, counted_on, on_gpu)
    found["memory"]["available"] = available
    gpu = lane.gpus[0].get("name") if lane and lane.gpus else None
    rate = measured_rate(session, earlier) or _rule(geometry, plan, lengths, config, gpu)
    num_tokens = (num_steps or 0) * config.step_size * lengths.mean
    return found | {"num_steps": num_steps, "seconds": round(num_tokens / rate, 1) if rate and num_steps else None}


def _memory(plan: MemoryPlan) -> dict[str, Any]:
    return {
        "memory": dict(plan.memory.as_json()),
        "fits": plan.fits,
        "bf16_fits": plan.bf16_fits,
        "row_tokens": plan.row_tokens,
        "checkpointed_layers": plan.checkpointed_layers,
    }


def _rule(
    geometry: Geometry | None, plan: MemoryPlan | None, lengths: Lengths, config: TrainingConfig, gpu: str | None
) -> float | None:
    if geometry is None or plan is None:
        return None
    return tokens_per_second(geometry, plan.demand, lengths.mean * config.step_size, gpu)


def largest_lane(session: Session) -> Lane | None:
    """The lane with the most GPU memory; else the one of the machine with the most RAM."""
    lanes = session.exec(select(Lane).order_by(col(Lane.id)))
    return max(lanes, key=lambda lane: (_gpu_memory(lane), _telemetry(lane, "ram_total")), default=None)


def available_memory(session: Session, lane: Lane) -> int | None:
    """Bytes a job would find there; a job that holds the lane now will have gone by then."""
    if lane.gpus:
        total = _gpu_memory(lane)
        return total if _is_held(session, lane) else total - _telemetry(lane, "vram_used")
    total = _telemetry(lane, "ram_total")
    return total - _telemetry(lane, "ram_used") if total else None


def _is_held(session: Session, lane: Lane) -> bool:
    query = select(Job.id).where(Job.lane_id == lane.id, col(Job.state).in_(HELD))
    return session.exec(query.limit(1)).first() is not None


def _gpu_memory(lane: Lane) -> int:
    return max((int(gpu.get("memory") or 0) for gpu in lane.gpus), default=0)


def _telemetry(lane: Lane, name: str) -> int:
    return int((lane.telemetry or {}).get(name) or 0)


def newest_finished(session: Session, model: str) -> Job | None:
    query = select(Job).where(Job.model == model, Job.state == JobState.SUCCEEDED).order_by(col(Job.id).desc())
    return session.exec(query.limit(1)).first()


def measured_rate(session: Session, job: Job | None) -> float | None:
    """Tokens a second of a finished job with this base model."""
    if job is None:
        return None
    query = select(func.sum(Metric.num_tokens), func.sum(Metric.step_s)).where(Metric.job_id == job.id)
    tokens, taken = session.exec(query).one()
    return tokens / taken if tokens and taken else None


def steps_of(sources: Sources, config: TrainingConfig) -> int | None:
    """As the trainer will count them, but for records that turn out too long; None while nobody has counted."""
    if config.max_steps is not None:
        return config.max_steps
    nums_valid = [dataset.num_valid or 0 for dataset, _ in sources]
    if not all(nums_valid):
        return None
    drawn, inside = 0, config.validation_dataset_id is None
    aside = kept_aside(nums_valid, config.validation_share if inside else 0, config.validation_count if inside else 0)
    for (_, weight), num_valid, wanted in zip(sources, nums_valid, aside, strict=True):
        drawn += draws(len(choose_validation(num_valid, wanted, config.seed)[0]), weight)
    return config.num_steps(drawn)


def lengths_of(session: Session, dataset: Dataset, config: TrainingConfig, earlier: Job | None) -> Lengths:
    """Tokens of the examples by the dataset's characters; before they are counted, the longest that is allowed."""
    counted, num_valid = dataset.statistics, dataset.num_valid
    if not counted or not num_valid:
        return Lengths(longest=config.max_length, mean=config.max_length / 2)
    per_token = characters_per_token(session, earlier)
    images = counted["images"] / num_valid * min(TOKENS_PER_IMAGE, (config.max_pixels or 2**30) // PIXELS_PER_TOKEN)
    around = TOKENS_PER_TURN * (counted["turns"] / num_valid + 1) + len(config.system_prompt) / per_token + images
    mean = counted["characters"] / num_valid / per_token + around
    lengths = Lengths(
        longest=round(max(mean, counted["longest"] / per_token + around)),
        mean=mean,
        target_share=min(1.0, max(0.01, counted["answer_characters"] / max(1, counted["characters"]))),
        patch_share=PATCHES_PER_TOKEN * images / mean,
    )
    return lengths.cut(config.max_length)


def characters_per_token(session: Session, earlier: Job | None) -> float:
    """As a finished job with this base model has counted them, else by the rule."""
    dataset = session.get(Dataset, earlier.dataset_id) if earlier is not None else None
    if earlier is None or dataset is None or not dataset.statistics or not dataset.num_valid:
        return CHARACTERS_PER_TOKEN
    tokens, examples = earlier.resolved.get("num_tokens"), earlier.resolved.get("num_train")
    if not tokens or not examples:
        return CHARACTERS_PER_TOKEN
    around = TOKENS_PER_TURN * (dataset.statistics["turns"] / dataset.num_valid + 1)
    characters = dataset.statistics["characters"] / dataset.num_valid + len(str(earlier.config["system_prompt"]))
    return float(min(8.0, max(0.5, characters / max(1.0, tokens / examples - around))))


def disk_of(plan: MemoryPlan, geometry: Geometry, config: TrainingConfig) -> int:
    """Checkpoints that are kept (fp32 weights and the optimizer's state), and the adapter."""
    weights = 4 * geometry.lora_params(config.lora_r)
    kept = config.keep_checkpoints + (1 if config.keep_best else 0)
    return kept * (weights + plan.memory.optimizer) + weights
