import json

import pytest
from sqlmodel import select

from app.models import Lane
from app.services import needs, nodes
from tests.factories import Center, rows

CARD = {"name": "RTX 4090", "memory": 24_564 * 2**20}


def test_a_lane_is_given_the_first_job_that_it_fits(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    large = center.make_job(dataset_id, needs={"gpus": 2})["id"]
    small = center.make_job(dataset_id)["id"]
    one, two = center.worker("one", gpus=[CARD]), center.worker("two", gpus=[CARD, CARD])
    assert one.must_claim().job_id == small and center.worker("three", gpus=[CARD]).claim() is None
    assert two.must_claim().job_id == large


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"gpus": 0}, True),
        ({"gpus": 2}, True),
        ({"gpus": 3}, False),
        ({"memory": "24 GB"}, True),
        ({"memory": "24 GiB"}, False),
        ({"memory": 1}, True),
        ({"gpus": 2, "memory": "20GB"}, True),
        ({"labels": ["fast"]}, True),
        ({"labels": ["fast", "quiet"]}, False),
        ({"node": "attic"}, True),
        ({"node": "cellar"}, False),
    ],
)
def test_what_is_asked_for_is_all_there_or_the_lane_does_not_fit(asked: dict[str, object], fits: bool) -> None:
    lane = Lane(node_id=1, name="gpus", gpus=[CARD, CARD], labels=["fast", "big"])
    assert needs.fits(needs.Needs.model_validate(asked).as_kept(), lane, "attic") is fits


@pytest.mark.parametrize(
    ("asked", "words"),
    [("24 GB", "24 GB"), ("24 GiB", "25.8 GB"), ("1.5 TiB", "1.65 TB"), ("2 TB", "2 TB"), ("512 MiB", "537 MB")],
)
def test_an_amount_is_told_as_it_is_read(asked: str, words: str) -> None:
    assert needs.describe(needs.Needs.model_validate({"memory": asked}).as_kept()) == f"a lane with a GPU of {words}"


def test_a_lane_without_a_gpu_has_no_memory_of_one() -> None:
    assert not needs.fits({"memory": 1}, Lane(node_id=1, name="cpu"), "attic")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"gpus": -1}, "needs.gpus"),
        ({"memory": "much"}, "needs.memory"),
        ({"memory": "0 GB"}, "needs.memory"),
        ({"labels": [""]}, "needs.labels.0"),
        ({"colour": "red"}, "needs.colour"),
        (3, "needs"),
    ],
)
def test_needs_without_sense_are_wrong_fields(center: Center, asked: object, field: str) -> None:
    body = {"dataset_id": center.upload(rows(3))["id"], "model": "tiny-qwen3-vl", "needs": asked}
    answer = center.post("/api/jobs", json=body)
    assert answer.status_code == 422 and [one["field"] for one in answer.json()["error"]["detail"]] == [field]


def test_a_job_that_fits_no_lane_says_so_and_one_whose_lane_is_busy_does_not(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    center.worker("one", gpus=[CARD])
    waiting = center.make_job(dataset_id, needs={"gpus": 2, "memory": "20 GB"})
    wanted = "waits for a lane with 2 GPUs of 20 GB; none of the registered lanes has that"
    assert waiting["waiting_for"] == {"kind": "lane", "message": wanted}
    assert waiting["needs"] == {"gpus": 2, "memory": 20 * 10**9}
    center.worker("two", gpus=[CARD, CARD])
    assert center.job(waiting["id"])["waiting_for"] is None


def test_a_job_whose_only_lane_is_offline_says_which(center: Center) -> None:
    job = center.make_job(needs={"labels": ["fast"]})
    center.worker("one", labels=["fast"])
    with center.database.write() as session:
        lane = session.exec(select(Lane)).one()
        lane.last_seen_at = lane.last_seen_at.replace(year=2020)
    message = center.job(job["id"])["waiting_for"]["message"]
    assert message == "waits for a lane with the label fast; workshop/one has that and is offline"


def test_wake_ups_go_to_lanes_that_fit_and_to_as_many_as_there_are_jobs(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    for name, cards in (("big", 2), ("left", 1), ("right", 1)):
        center.worker(name, gpus=[CARD] * cards)
    for asked in ({"gpus": 4}, {"gpus": 1}, {"gpus": 2}):
        center.make_job(dataset_id, needs=asked)
    with center.database.read() as session:
        assert sorted(nodes.queues_to_wake(session)) == ["lane.workshop.big", "lane.workshop.left"]


def test_several_jobs_start_in_order_on_several_lanes(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    ids = [center.make_job(dataset_id)["id"] for _ in range(3)]
    assert [center.worker(name).must_claim().job_id for name in "abc"] == ids


def test_a_clone_asks_for_the_same(center: Center) -> None:
    job = center.make_job(needs={"labels": ["fast"]}, max_duration_s=60, start_after="2000-01-01T00:00:00")
    clone = center.act(job["id"], "clone").json()
    assert (clone["needs"], clone["max_duration_s"], clone["start_after"]) == ({"labels": ["fast"]}, 60, None)
    assert json.dumps(job["start_after"]) == '"2000-01-01T00:00:00.000Z"'
