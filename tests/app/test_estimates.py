from typing import Any

import pytest
from sqlmodel import col, select

from app.models import Dataset, Job, Lane
from app.services import estimates
from tests.factories import Center, rows

REAL = "Qwen/Qwen3-VL-8B-Instruct"
GIB = 2**30


def gpu_lane(center: Center, gib: float, used: float = 0, name: str = "NVIDIA GeForce RTX 4090") -> None:
    """A lane with one card of that memory, as a worker registers and beats it."""
    worker = center.worker("gpu0", f"node-of-{gib}")
    worker.beat({"vram_used": used * GIB, "vram_total": gib * GIB, "ram_used": 0, "ram_total": 64 * GIB})
    with center.database.write() as session:
        lane = session.exec(select(Lane).order_by(col(Lane.id).desc())).first()
        assert lane is not None
        lane.kind, lane.gpus = "gpu", [{"name": name, "memory": int(gib * GIB)}]


def cpu_lane(center: Center, gib: float) -> None:
    center.worker("cpu", f"node-of-{gib}").beat({"ram_used": GIB, "ram_total": (gib + 1) * GIB})


def asked(center: Center, model: str = REAL, num_rows: int = 100, **config: Any) -> dict[str, Any]:
    dataset_id = center.upload(rows(num_rows))["id"]
    answer = center.post("/api/estimate", json={"dataset_id": dataset_id, "model": model, "config": config})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_estimate_has_the_shape_of_the_contract(center: Center) -> None:
    gpu_lane(center, 24)
    found = asked(center)
    assert set(found) >= {"memory", "fits", "seconds", "disk", "num_steps", "would_fit"}
    parts = ["weights", "adapter", "optimizer", "activations", "head", "images"]
    assert set(found["memory"]) == {*parts, "total", "available"}
    assert found["memory"]["total"] == sum(found["memory"][part] for part in parts)
    assert (found["fits"], found["would_fit"], found["memory"]["images"]) == (True, [], 0)


def test_nothing_is_made_by_asking(center: Center) -> None:
    asked(center)
    assert center.get("/api/jobs").json()["items"] == []


def test_every_wrong_field_is_named_as_for_a_job(center: Center) -> None:
    body = {"dataset_id": "x", "model": "no such", "config": {"lora_r": 0, "nonsense": 1}, "colour": "red"}
    answers = [center.post(path, json=body) for path in ("/api/estimate", "/api/jobs")]
    assert [one.status_code for one in answers] == [422, 422]
    assert answers[0].json()["error"]["detail"] == answers[1].json()["error"]["detail"]


def test_an_unknown_or_refused_dataset_is_refused_as_for_a_job(center: Center) -> None:
    refused = center.upload(b"nothing\n")["id"]
    for dataset_id, status in ((99, 422), (refused, 409)):
        assert center.post("/api/estimate", json={"dataset_id": dataset_id, "model": REAL}).status_code == status


@pytest.mark.parametrize(
    ("num_rows", "config", "wanted"), [(100, {}, 13), (100, {"epochs": 3}, 39), (5, {"max_steps": 7}, 7)]
)
def test_steps_are_counted_from_the_dataset(center: Center, num_rows: int, config: dict[str, Any], wanted: int) -> None:
    assert asked(center, num_rows=num_rows, **config)["num_steps"] == wanted


def test_a_dataset_that_is_not_counted_yet_has_no_steps(center: Center) -> None:
    dataset_id = center.upload(rows(50))["id"]
    with center.database.write() as session:
        dataset = session.get_one(Dataset, dataset_id)
        dataset.state, dataset.num_valid, dataset.statistics = "checking", None, None
    found = center.post("/api/estimate", json={"dataset_id": dataset_id, "model": REAL}).json()
    assert (found["num_steps"], found["seconds"]) == (None, None)
    assert found["memory"]["total"] > 0


def test_the_largest_card_is_what_is_planned_for(center: Center) -> None:
    cpu_lane(center, 500)
    gpu_lane(center, 12)
    gpu_lane(center, 24, used=1)
    assert asked(center)["memory"]["available"] == 23 * GIB


def test_a_lane_that_is_busy_now_counts_whole(center: Center) -> None:
    gpu_lane(center, 24, used=20)
    center.make_job()
    with center.database.write() as session:
        job, lane = session.get_one(Job, 1), session.get_one(Lane, 1)
        job.state, job.lane_id = "running", lane.id
    assert asked(center)["memory"]["available"] == 24 * GIB


def test_without_a_card_it_is_the_memory_of_the_machine(center: Center) -> None:
    cpu_lane(center, 30)
    found = asked(center)
    assert (found["memory"]["available"], found["fits"], found["seconds"]) == (30 * GIB, True, None)


def test_before_any_lane_nothing_is_promised(center: Center) -> None:
    found = asked(center)
    assert (found["memory"]["available"], found["fits"], found["would_fit"]) == (None, None, [])


def test_what_does_not_fit_is_told_with_what_would(center: Center) -> None:
    gpu_lane(center, 12)
    found = asked(center, use_qlora=False)
    assert found["fits"] is False and found["memory"]["total"] > 12 * GIB
    assert [one["config"] for one in found["would_fit"]] == [{"use_qlora": True}]
    assert found["would_fit"][0]["total"] < 12 * GIB


def test_a_bf16_base_is_named_where_it_would_fit(center: Center) -> None:
    gpu_lane(center, 80)
    assert asked(center)["bf16_fits"] is True


def test_a_model_nobody_knows_has_no_memory_but_steps(center: Center) -> None:
    found = asked(center, model="somebody/else")
    assert (found["memory"]["total"], found["fits"], found["disk"], found["num_steps"]) == (None, None, None, 13)


def test_time_is_by_rule_until_a_job_has_been_measured(center: Center) -> None:
    gpu_lane(center, 24)
    assert asked(center)["seconds"] > 0
    trained(center, num_tokens=3000, step_s=0.5)
    before = asked(center, model="tiny-qwen3-vl", max_steps=10)["seconds"]
    trained(center, num_tokens=300, step_s=0.5)
    assert asked(center, model="tiny-qwen3-vl", max_steps=10)["seconds"] == pytest.approx(10 * before, rel=0.1)


def trained(center: Center, num_tokens: int, step_s: float) -> None:
    """A job on the tiny model that took two such steps."""
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(*[claim.step(step) | {"num_tokens": num_tokens, "step_s": step_s} for step in (1, 2)])
    assert claim.succeed(2).status_code == 200


def test_tokens_are_counted_as_a_finished_job_counted_them(center: Center) -> None:
    gpu_lane(center, 24)
    before = asked(center, model="tiny-qwen3-vl")["memory"]["activations"]
    center.make_job()
    claim = center.worker().must_claim()
    claim.beat(claim.event("state", phase="planning", resolved={"num_tokens": 30_000, "num_train": 29}))
    claim.begin()
    assert claim.succeed().status_code == 200
    assert asked(center, model="tiny-qwen3-vl")["memory"]["activations"] > 2 * before


def test_a_job_keeps_the_estimate_it_was_made_with(center: Center) -> None:
    gpu_lane(center, 24)
    found = asked(center, model="tiny-qwen3-vl", lora_r=8)
    job = center.make_job(center.upload(rows(100))["id"], config={"lora_r": 8})
    kept = found | {"disk_here": found["disk"]}
    assert job["estimate"] == center.job(job["id"])["estimate"] == kept
    assert center.act(job["id"], "clone").json()["estimate"] == kept


def test_an_estimate_of_a_waiting_job_is_made_anew_when_its_dataset_is_counted(center: Center) -> None:
    job = center.make_job(config={"epochs": 2})
    with center.database.write() as session:
        kept = session.get_one(Job, job["id"])
        kept.estimate = {"num_steps": None, "disk_here": (kept.estimate or {})["disk_here"]}
    with center.database.write() as session:
        estimates.renew(session, center.app.state.base_models, session.get_one(Dataset, job["dataset_ids"][0]))
    assert center.job(job["id"])["estimate"] == job["estimate"]
    assert job["estimate"]["num_steps"] == 8


def test_a_check_that_ends_renews_the_estimates(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(estimates, "renew", lambda _session, _models, dataset: renewed.append(dataset.name))
    center.upload(rows(12), name="counted.jsonl")
    assert renewed == ["counted.jsonl"]
