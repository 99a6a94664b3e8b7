"""Every "auto" becomes a number."""

from typing import Any

from app.geometry import BUILT_IN
from app.planner import Lengths, MemoryPlan
from app.planner import make_plan as planned
from app.schemas import TrainingConfig
from tests.tiny import make_examples
from worker.trainer.data import Data
from worker.trainer.resolve import resolve, with_resolved
from worker.trainer.schedule import make_plan

REAL = BUILT_IN["Qwen/Qwen3-VL-8B-Instruct"]
DATA = Data(train=make_examples((30, 2), (9, 8), (17, 5)), validation=[], left_out={"in error": 2}, num_injected=3)


def memory_plan(config: TrainingConfig) -> MemoryPlan:
    return planned(config, Lengths(longest=30, mean=20), REAL, 16 * 2**30, on_gpu=True)


def resolved(**settings: Any) -> dict[str, int]:
    config = TrainingConfig(**{"max_steps": 100, **settings})
    return resolve(config, DATA, make_plan(config, 3), memory_plan(config)).as_json()


def test_auto_follows_the_job_and_the_plan() -> None:
    found, plan = resolved(), memory_plan(TrainingConfig())
    assert [found[key] for key in ("eval_steps", "save_steps", "sample_steps")] == [5, 5, 5]
    assert (found["checkpointed_layers"], found["row_tokens"]) == (plan.checkpointed_layers, plan.row_tokens)
    assert found["planned_memory"] == plan.memory.total


def test_samples_follow_the_evaluations() -> None:
    assert resolved(eval_steps=7)["sample_steps"] == 7


def test_what_is_set_stays() -> None:
    found = resolved(eval_steps=7, save_steps=8, sample_steps=9, checkpointed_layers=0, row_tokens=4096)
    assert [found[key] for key in ("eval_steps", "save_steps", "sample_steps")] == [7, 8, 9]
    assert (found["checkpointed_layers"], found["row_tokens"]) == (0, 4096)


def test_the_examples_are_counted() -> None:
    found = resolved()
    assert (found["num_train"], found["num_dropped"], found["num_tokens"], found["num_targets"]) == (3, 2, 56, 15)


def test_the_manifest_shows_what_was_carried_out() -> None:
    config = TrainingConfig(max_steps=100)
    shown = with_resolved(config, resolve(config, DATA, make_plan(config, 3), memory_plan(config)))
    assert "auto" not in shown.values()
    assert shown.keys() == TrainingConfig.model_fields.keys()
