"""The memory plan: made before the weights are read, refused where it cannot hold, measured at the end."""

from pathlib import Path

import pytest
import torch

from app.estimate import BLOCK, CHUNK_BYTES
from app.geometry import BUILT_IN
from app.planner import make_plan
from app.schemas import TrainingConfig
from tests.tiny import CPU, conversation, make_examples, make_job, of_kind, picture_conversation, run_job
from worker.trainer import losses, memory, plan, run
from worker.trainer.memory import free_memory
from worker.trainer.model import load_base, set_vision_aside
from worker.trainer.plan import lengths_of, sentence

RECORDS = [conversation(i) for i in range(12)]


def test_the_formula_counts_chunks_as_the_loss_makes_them() -> None:
    assert (CHUNK_BYTES, BLOCK) == (losses.CHUNK_BYTES, losses.BLOCK)


def test_lengths_are_those_of_all_examples() -> None:
    found = lengths_of(make_examples((30, 2), (9, 8), (17, 5)))
    assert (found.longest, found.patch_share) == (30, 0.0)
    assert found.mean == pytest.approx(56 / 3)
    assert found.target_share == pytest.approx(15 / 56)


def test_this_machine_has_memory_left() -> None:
    found = free_memory(CPU)
    assert found is None or 2**20 < found < 2**50


def test_the_plan_is_said_resolved_measured_and_kept(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, max_steps=2)
    manifest = run_job(tmp_path)["adapter"]["manifest"]
    texts = [one["text"] for one in of_kind(tmp_path, "log")]
    assert any(one.startswith("Memory plan: ") and "2 of 2 layers recomputed" in one for one in texts)
    assert any(one.startswith("Memory: ") and "were planned" in one for one in texts)
    kept = manifest["memory"]
    assert kept["planned"]["total"] == manifest["resolved"]["planned_memory"] > 0
    assert kept["measured_peak"] >= 0
    told = [one["resolved"] for one in of_kind(tmp_path, "state") if "resolved" in one]
    assert told[0]["memory"]["total"] == kept["planned"]["total"] <= told[0]["memory"]["usable"]
    assert set(told[-1]) == {"measured_peak"}


@pytest.mark.parametrize(("gib", "on_gpu", "said"), [(24, True, True), (12, True, False), (24, False, False)])
def test_a_bf16_base_is_offered_where_a_card_has_room_for_it(gib: int, on_gpu: bool, said: bool) -> None:
    real, available = BUILT_IN["Qwen/Qwen3-VL-8B-Instruct"], gib * 2**30
    found = make_plan(TrainingConfig(), lengths_of(make_examples((600, 200))), real, available, on_gpu)
    text = sentence(found, real, available, on_gpu)
    assert ("use_qlora false" in text) == said
    assert f"of {gib}.0 GB free" in text


def test_a_job_that_cannot_fit_is_refused_before_the_weights_are_read(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "free_memory", lambda device: 16 * 2**20)
    monkeypatch.delattr(run, "load_base")
    make_job(tmp_path, model_dir, RECORDS, lora_r=512)
    error = run_job(tmp_path)["error"]
    assert error["code"] == "does_not_fit" and "lora_r 64" in error["advice"]
    assert [one["phase"] for one in of_kind(tmp_path, "state")] == ["loading", "tokenizing"]


def test_where_nothing_would_fit_a_larger_machine_is_advised(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "free_memory", lambda device: 1024)
    make_job(tmp_path, model_dir, RECORDS)
    assert "more memory" in run_job(tmp_path)["error"]["advice"]


def test_a_machine_that_does_not_say_what_is_free_refuses_nothing(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    make_job(tmp_path / "job", model_dir, RECORDS, max_steps=1)
    assert run_job(tmp_path / "job")["outcome"] == "succeeded"


def test_the_vision_tower_is_set_aside_for_text_alone(model_dir: Path) -> None:
    base = load_base(model_dir, False, CPU)
    names = set(base.state_dict())
    set_vision_aside(base)
    assert set(base.state_dict()) == names
    assert next(name for name, _ in base.named_parameters()).startswith("model.language_model")


@pytest.mark.parametrize(("records", "wanted"), [(RECORDS, [True]), ([picture_conversation(1)] * 4, [])])
def test_it_stays_where_an_example_has_an_image(
    records: list[dict[str, object]],
    wanted: list[bool],
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(run, "set_vision_aside", lambda base: seen.append(True))
    make_job(tmp_path, model_dir, records, max_steps=1)
    assert run_job(tmp_path)["outcome"] == "succeeded"
    assert seen == wanted


def test_logits_are_the_same_without_the_tower_in_its_place(model_dir: Path) -> None:
    ids = torch.arange(10, 30)[None]
    base = load_base(model_dir, False, CPU)
    before = base(input_ids=ids).logits
    set_vision_aside(base)
    assert torch.equal(base(input_ids=ids).logits, before)
