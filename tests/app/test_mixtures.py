"""Several datasets in one job: named, weighed, given to the worker, and kept for it."""

from typing import Any

import pytest

from app.models import Dataset
from tests.factories import Center, rows


def two(center: Center) -> list[int]:
    return [center.upload(rows(count, str(count)), f"{count}.jsonl")["id"] for count in (30, 60)]


def mix(center: Center, *mixed: Any, **more: Any) -> Any:
    return center.post("/api/jobs", json={"datasets": list(mixed), "model": "tiny-qwen3-vl", **more})


def test_a_job_lists_all_its_datasets_with_their_weights(center: Center) -> None:
    first, second = two(center)
    answer = mix(center, {"id": first, "weight": 2}, {"id": second})
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert job["dataset_ids"] == [first, second]
    assert job["datasets"] == [{"id": first, "weight": 2.0}, {"id": second, "weight": 1.0}]
    clone = center.act(job["id"], "clone", {}).json()
    assert clone["datasets"] == job["datasets"]


def test_the_steps_that_are_expected_count_the_draws(center: Center) -> None:
    first, second = two(center)
    config = {"epochs": 1, "gradient_accumulation": 1, "validation_count": 9}
    body = {"datasets": [{"id": first, "weight": 2}, {"id": second, "weight": 0.5}], "model": "tiny-qwen3-vl"}
    shown = center.post("/api/estimate", json=body | {"config": config}).json()
    assert shown["num_steps"] == 2 * (30 - 3) + (60 - 6) // 2


def test_the_worker_gets_every_dataset_and_no_other(center: Center) -> None:
    first, second = two(center)
    other = center.upload(rows(3, "other"))["id"]
    mix(center, {"id": first}, {"id": second, "weight": 0.5})
    claim = center.worker().must_claim()
    given = claim.body["mixture"]
    assert [(one["id"], one["weight"]) for one in given] == [(first, 1.0), (second, 0.5)]

    def fetched(dataset_id: int) -> Any:
        return center.client.get(f"/api/worker/jobs/{claim.job_id}/datasets/{dataset_id}", headers=claim.headers)

    assert [len(fetched(one["id"]).content) for one in given] == [one["size"] for one in given]
    assert fetched(other).status_code == 404


def test_it_waits_until_each_of_them_is_checked(center: Center) -> None:
    first, second = two(center)
    _set_state(center, second, "checking")
    job = mix(center, {"id": first}, {"id": second}).json()
    assert center.job(job["id"])["waiting_for"]["id"] == second
    assert center.worker().claim() is None
    _set_state(center, second, "ready")
    assert center.worker().must_claim().job_id == job["id"]


def _set_state(center: Center, dataset_id: int, state: str) -> None:
    with center.database.write() as session:
        session.get_one(Dataset, dataset_id).state = state


def test_a_dataset_it_needs_cannot_be_thrown_away(center: Center) -> None:
    first, second = two(center)
    job = mix(center, {"id": first}, {"id": second}).json()
    answer = center.client.delete(f"/api/datasets/{second}", headers=center.headers)
    assert answer.status_code == 409 and f"job {job['id']} needs it" in answer.json()["error"]["message"]


def test_one_that_is_refused_or_in_the_trash_is_not_mixed_in(center: Center) -> None:
    first, second = two(center)
    refused = center.upload(b"{}\n")["id"]
    assert mix(center, {"id": first}, {"id": refused}).status_code == 409
    assert center.client.delete(f"/api/datasets/{second}", headers=center.headers).is_success
    assert mix(center, {"id": first}, {"id": second}).status_code == 409


@pytest.mark.parametrize(
    ("datasets", "fields"),
    [
        ([], {"datasets"}),
        (1, {"datasets"}),
        ([{"id": 1}, {"id": 1}], {"datasets"}),
        ([{"id": 1, "weight": 0}], {"datasets.0.weight"}),
        ([{"id": 1}, {"id": 99}], {"datasets.1.id"}),
        ([{"id": 1, "share": 1}], {"datasets.0.share"}),
    ],
)
def test_a_mixture_that_is_none_is_a_wrong_field(center: Center, datasets: Any, fields: set[str]) -> None:
    two(center)
    answer = center.post("/api/jobs", json={"datasets": datasets, "model": "tiny-qwen3-vl"})
    assert answer.status_code == 422, answer.text
    assert {one["field"] for one in answer.json()["error"]["detail"]} == fields


def test_one_dataset_beside_another_mixture_is_refused(center: Center) -> None:
    first, second = two(center)
    answer = mix(center, {"id": first}, dataset_id=second)
    assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, "datasets")
