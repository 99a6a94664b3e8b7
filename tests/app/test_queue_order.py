import time

import pytest
from sqlmodel import col, select

from app.models import Job
from app.services import attempts, places
from tests.factories import Center, Claim, Worker, rows


@pytest.fixture
def dataset_id(center: Center) -> int:
    return int(center.upload(rows(3))["id"])


def queue(center: Center) -> list[int]:
    return [one["id"] for one in center.get("/api/queue?limit=500").json()["items"]]


def make(center: Center, dataset_id: int, *priorities: str) -> list[int]:
    return [center.make_job(dataset_id, priority=one)["id"] for one in priorities]


def test_a_job_moves_before_another_and_takes_its_priority(center: Center, dataset_id: int) -> None:
    urgent, normal, low = make(center, dataset_id, "urgent", "normal", "low")
    assert center.act(low, "move", {"before": urgent}).json()["priority"] == "urgent"
    assert queue(center) == [low, urgent, normal]
    assert center.act(urgent, "move", {"position": 3}).json()["position"] == 3
    assert queue(center) == [low, normal, urgent] and center.job(urgent)["priority"] == "normal"
    assert center.act(normal, "move", {"position": 1}).json()["priority"] == "urgent"


def test_moves_between_the_same_two_find_room_for_ever(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, *["normal"] * 4)
    for _ in range(places.GAP.bit_length() + 2):
        center.act(ids[2], "move", {"before": ids[1]})
        center.act(ids[1], "move", {"before": ids[2]})
    assert queue(center) == ids
    center.act(ids[0], "move", {"position": 500})
    assert queue(center) == [*ids[1:], ids[0]]


def test_room_is_made_where_places_touch(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal", "high", "normal")
    with center.database.write() as session:
        for place, job in enumerate(session.exec(select(Job).order_by(col(Job.id)))):
            job.place = place
    assert center.act(ids[3], "move", {"before": ids[1]}).json()["position"] == 3
    assert queue(center) == [ids[2], ids[0], ids[3], ids[1]]


@pytest.mark.parametrize("body", [None, {}, {"before": 1, "position": 1}, {"position": 0}, {"before": 99}, {"x": 1}])
def test_a_move_without_sense_is_refused(center: Center, dataset_id: int, body: object) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    assert center.act(ids[1], "move", body).status_code == 422
    assert queue(center) == ids


def test_what_is_not_queued_has_no_place(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    center.worker().must_claim()
    assert center.act(ids[0], "move", {"position": 1}).status_code == 409
    assert center.act(ids[1], "move", {"before": ids[0]}).status_code == 409
    assert center.act(ids[1], "move", {"before": ids[1]}).status_code == 422


def test_every_action_stands_in_the_history(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    center.act(ids[1], "move", {"before": ids[0]})
    center.worker().must_claim()
    center.act(ids[1], "preempt")
    items = center.get(f"/api/jobs/{ids[1]}/history").json()["items"]
    assert [one["action"] for one in items] == ["create", "move", "preempt"]
    assert items[2]["detail"] == {"for": ids[0]} and items[2]["who"] == "api"


def running(worker: Worker) -> Claim:
    claim = worker.must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    return claim


def test_a_preempted_job_stands_right_behind_the_one_it_makes_way_for(center: Center, dataset_id: int) -> None:
    worker = center.worker()
    first = make(center, dataset_id, "urgent")[0]
    claim = running(worker)
    ids = make(center, dataset_id, "normal", "normal", "low")
    assert center.act(first, "preempt").json()["makes_way_for"] == ids[0]
    assert claim.beat().json()["commands"] == ["pause"]
    claim.checkpoint(1)
    assert claim.end("paused").json()["state"] == "queued"
    assert queue(center) == [ids[0], first, *ids[1:]]
    assert worker.must_claim().job_id == ids[0]
    assert center.worker("other").must_claim().body["resume"]["step"] == 1


def test_a_job_of_low_priority_makes_way_without_losing_it_to_those_between(center: Center, dataset_id: int) -> None:
    worker = center.worker()
    low = make(center, dataset_id, "low")[0]
    claim = running(worker)
    ids = make(center, dataset_id, "urgent", "normal")
    center.act(low, "preempt")
    claim.end("paused")
    assert queue(center) == [ids[0], low, ids[1]] and center.job(low)["priority"] == "normal"


def test_nothing_that_could_start_there_keeps_the_job_where_it_is(center: Center, dataset_id: int) -> None:
    make(center, dataset_id, "normal")
    claim = running(center.worker())
    center.make_job(dataset_id, needs={"gpus": 1})
    center.make_job(dataset_id, start_after="2990-01-01")
    answer = center.act(claim.job_id, "preempt")
    assert answer.status_code == 409 and "could start on the lane" in answer.json()["error"]["message"]


def test_the_job_it_made_way_for_is_gone_and_one_of_lower_priority_takes_nothing(
    center: Center, dataset_id: int
) -> None:
    first = make(center, dataset_id, "normal")[0]
    claim = running(center.worker())
    asked_for, low = make(center, dataset_id, "normal", "low")
    assert center.act(first, "preempt").json()["makes_way_for"] == asked_for
    center.act(asked_for, "cancel")
    claim.end("paused")
    assert (queue(center), center.job(first)["priority"]) == ([first, low], "normal")


def test_a_lease_lost_while_making_way_is_no_fault(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    running(center.worker())
    center.act(ids[0], "preempt")
    with center.database.write() as session:
        session.get_one(Job, ids[0]).lease_until = time.time() - 1
        attempts.reap(session)
        assert session.get_one(Job, ids[0]).faults == 0
    assert queue(center) == [ids[1], ids[0]] and center.job(ids[0])["makes_way_for"] is None


def test_a_crash_while_making_way_does_not_put_the_job_first_again(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    claim = running(center.worker())
    center.act(ids[0], "preempt")
    assert claim.end("crashed", exit={"signal": 9}).json()["state"] == "queued"
    assert queue(center) == [ids[1], ids[0]]


def test_what_a_person_asks_after_a_preemption_wins(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    claim = running(center.worker())
    center.act(ids[0], "preempt")
    assert center.act(ids[0], "preempt").status_code == 409
    center.act(ids[0], "cancel")
    assert claim.beat().json()["commands"] == ["cancel"]
    assert claim.end("paused").json()["state"] == "cancelled"


def test_the_other_job_is_gone_when_the_lane_is_free(center: Center, dataset_id: int) -> None:
    ids = make(center, dataset_id, "normal", "normal")
    claim = running(center.worker())
    center.act(ids[0], "preempt")
    center.act(ids[1], "cancel")
    assert claim.end("paused").json()["state"] == "queued" and queue(center) == [ids[0]]


def test_the_queue_pages_in_the_order_of_claiming(center: Center, dataset_id: int) -> None:
    low, high, normal = make(center, dataset_id, "low", "high", "normal")
    page = center.get("/api/queue?limit=2").json()
    assert ([one["id"] for one in page["items"]], page["next"]) == ([high, normal], normal)
    assert [one["id"] for one in center.get(f"/api/queue?limit=2&after={normal}").json()["items"]] == [low]
    assert [one["position"] for one in page["items"]] == [1, 2]
