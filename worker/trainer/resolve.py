"""Every "auto" of a configuration turned into a number, before the weights are read."""

from dataclasses import asdict, dataclass
from typing import Any

from app.planner import MemoryPlan
from app.schemas import TrainingConfig
from worker.trainer.data import Data
from worker.trainer.schedule import Plan, every


@dataclass(frozen=True)
class Resolved:
    num_steps: int
    eval_steps: int
    save_steps: int
    sample_steps: int
    row_tokens: int
    checkpointed_layers: int
    num_train: int
    num_validation: int
    num_dropped: int
    num_injected: int
    num_tokens: int
    num_targets: int
    planned_memory: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def resolve(config: TrainingConfig, data: Data, plan: Plan, memory: MemoryPlan) -> Resolved:
    evals = every(config.eval_steps, plan.num_steps)
    return Resolved(
        num_steps=plan.num_steps,
        eval_steps=evals,
        save_steps=every(config.save_steps, plan.num_steps),
        sample_steps=evals if isinstance(config.sample_steps, str) else config.sample_steps,
        row_tokens=memory.row_tokens,
        checkpointed_layers=memory.checkpointed_layers,
        num_train=len(data.train),
        num_validation=len(data.validation),
        num_dropped=sum(data.left_out.values()),
        num_injected=data.num_injected,
        num_tokens=sum(one.num_tokens for one in data.train),
        num_targets=sum(one.num_targets for one in data.train),
        planned_memory=memory.memory.total,
    )


def with_resolved(config: TrainingConfig, resolved: Resolved) -> dict[str, Any]:
    """The configuration as it was carried out."""
    values = config.model_dump()
    return {key: resolved.as_json().get(key, value) for key, value in values.items()}


def told(resolved: Resolved, memory: MemoryPlan) -> dict[str, Any]:
    """What the planning phase reports: the numbers, and the memory by part with what may be used of what is free."""
    return resolved.as_json() | {"memory": {**memory.memory.as_json(), "usable": memory.usable}}
