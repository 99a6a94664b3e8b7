from datetime import timedelta

import pytest
from sqlmodel import select

from app.columns import utc_now
from app.hub import iso
from app.models import Attempt, Job
from app.services import limits, nodes
from tests.factories import Center, Claim, rows


@pytest.fixture
def dataset_id(center: Center) -> int:
    return int(center.upload(rows(3))["id"])


def started(center: Center) -> Claim:
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    return claim


def test_a_job_waits_for_others_and_goes_on_when_they_succeeded(center: Center, dataset_id: int) -> None:
    first = center.make_job(dataset_id)["id"]
    second = center.make_job(dataset_id, depends_on=[first], priority="urgent")
    assert second["depends_on"] == [first] and second["waiting_for"]["id"] == first
    claim = started(center)
    assert claim.job_id == first and center.worker("other").claim() is None
    claim.succeed()
    assert center.job(second["id"])["waiting_for"] is None
    assert center.worker("other").must_claim().job_id == second["id"]


def test_who_waits_for_a_job_that_failed_is_cancelled_with_the_reason(center: Center, dataset_id: int) -> None:
    first = center.make_job(dataset_id)["id"]
    second = center.make_job(dataset_id, depends_on=[first])["id"]
    third = center.make_job(dataset_id, depends_on=[second, first])["id"]
    started(center).end("failed", error={"code": "x", "message": "m"})
    for one, cause in ((second, first), (third, first)):
        job = center.job(one)
        assert (job["state"], job["error"]["code"]) == ("cancelled", "dependency_failed")
        assert job["error"]["message"] == f"It waited for job {cause}, which failed."
    assert center.act(first, "retry").json()["state"] == "queued" and center.job(second)["state"] == "cancelled"


def test_a_chain_falls_from_its_first_link_and_nothing_new_hangs_on_it(center: Center, dataset_id: int) -> None:
    ids = [center.make_job(dataset_id)["id"]]
    for _ in range(3):
        ids.append(center.make_job(dataset_id, depends_on=[ids[-1]])["id"])
    center.act(ids[0], "cancel")
    assert [center.job(one)["state"] for one in ids] == ["cancelled"] * 4
    assert center.job(ids[3])["error"]["message"] == f"It waited for job {ids[2]}, which was cancelled."
    body = {"dataset_id": dataset_id, "model": "tiny-qwen3-vl", "depends_on": [ids[0]]}
    assert center.post("/api/jobs", json=body).status_code == 409
    told = center.get(f"/api/jobs/{ids[1]}/history").json()["items"][-1]
    assert (told["who"], told["action"], told["detail"]) == ("control center", "dependency", {"job": ids[0]})
    for answer in (
        center.post("/api/jobs", json=body | {"depends_on": [99]}),
        center.act(ids[0], "clone", {"depends_on": [99]}),
    ):
        assert answer.status_code == 422 and answer.json()["error"]["detail"][0]["field"] == "depends_on"


def test_a_job_starts_no_earlier_than_it_should(center: Center, dataset_id: int) -> None:
    job = center.make_job(dataset_id, start_after="2990-01-01T12:30:00+02:00")
    assert job["waiting_for"]["message"] == "waits until 2990-01-01 10:30 UTC" and center.worker().claim() is None
    with center.database.write() as session:
        session.get_one(Job, job["id"]).start_after = utc_now() - timedelta(seconds=1)
    with center.database.read() as session:
        assert len(nodes.queues_to_wake(session)) == 1
    assert center.worker().must_claim().job_id == job["id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("start_after", 1), ("start_after", "soon"), ("max_duration_s", 0), ("max_duration_s", "long"), ("depends_on", 1)],
)
def test_times_without_sense_are_wrong_fields(center: Center, dataset_id: int, field: str, value: object) -> None:
    answer = center.post("/api/jobs", json={"dataset_id": dataset_id, "model": "tiny-qwen3-vl", field: value})
    assert answer.status_code == 422 and [one["field"] for one in answer.json()["error"]["detail"]] == [field]


def let_time_pass(center: Center, job_id: int, seconds: float) -> None:
    """As if the attempts of the job had begun so much earlier; then a turn of the sweep."""
    with center.database.write() as session:
        for attempt in session.exec(select(Attempt).where(Attempt.job_id == job_id, Attempt.ended_at == None)):  # noqa: E711
            attempt.started_at -= timedelta(seconds=seconds)
            session.add(attempt)
        session.flush()
        limits.stop_overlong(session, [])


def test_a_job_over_its_time_is_saved_and_stopped(center: Center, dataset_id: int) -> None:
    job_id = center.make_job(dataset_id, max_duration_s=100)["id"]
    claim = started(center)
    let_time_pass(center, job_id, 60)
    claim.end("released")
    claim = started(center)
    assert claim.beat().json()["commands"] == []
    let_time_pass(center, job_id, 60)
    assert claim.beat().json()["commands"] == ["cancel"]
    claim.checkpoint(1)
    claim.end("cancelled")
    job = center.job(job_id)
    assert (job["state"], job["error"]["code"]) == ("cancelled", "max_duration")
    assert center.get(f"/api/jobs/{job_id}/history").json()["items"][-1]["action"] == "max_duration"


def test_a_job_resumed_after_its_time_has_as_much_again(center: Center, dataset_id: int) -> None:
    job_id = center.make_job(dataset_id, max_duration_s=100)["id"]
    claim = started(center)
    claim.checkpoint(1)
    let_time_pass(center, job_id, 160)
    claim.end("crashed", exit={"signal": 9})
    assert center.job(job_id)["state"] == "cancelled"
    assert center.act(job_id, "resume").json()["error"] is None
    claim = started(center)
    let_time_pass(center, job_id, 60)
    assert claim.beat().json()["commands"] == []


def test_a_job_that_came_back_to_the_queue_over_its_time_ends_there(center: Center, dataset_id: int) -> None:
    job_id = center.make_job(dataset_id, max_duration_s=100)["id"]
    claim = started(center)
    with center.database.write() as session:
        attempt = session.exec(select(Attempt)).one()
        attempt.started_at -= timedelta(seconds=101)
    claim.end("released")
    let_time_pass(center, job_id, 0)
    assert (center.job(job_id)["state"], center.job(job_id)["error"]["code"]) == ("cancelled", "max_duration")


def test_expected_times_follow_the_order_and_the_lanes(center: Center, dataset_id: int) -> None:
    ids = [center.make_job(dataset_id)["id"] for _ in range(3)]
    last = center.make_job(dataset_id, depends_on=[ids[2]], needs={"node": "workshop"})["id"]
    with center.database.write() as session:
        for one, seconds in zip([*ids, last], (100, 200, 300, 400), strict=True):
            session.get_one(Job, one).estimate = {"seconds": seconds}
    center.worker("a"), center.worker("b")
    times = {one["id"]: one for one in center.get("/api/queue").json()["items"]}
    now = utc_now()

    def after(seconds: float, field: str, job_id: int) -> bool:
        wanted = iso(now + timedelta(seconds=seconds - 20)), iso(now + timedelta(seconds=seconds + 20))
        return str(wanted[0]) < str(times[job_id][field]) < str(wanted[1])

    assert after(0, "expected_start_at", ids[1]) and after(200, "expected_end_at", ids[1])
    assert after(100, "expected_start_at", ids[2]) and after(400, "expected_start_at", last)
    assert after(800, "expected_end_at", last)
    assert center.job(last)["expected_start_at"][:16] == times[last]["expected_start_at"][:16]


def test_what_nobody_can_expect_is_null(center: Center, dataset_id: int) -> None:
    stuck = center.make_job(dataset_id, needs={"gpus": 8})["id"]
    center.worker()
    assert center.job(stuck)["expected_start_at"] is None
    running = center.make_job(dataset_id)["id"]
    started(center)
    assert center.job(running)["expected_end_at"] > iso(utc_now())


def test_what_jobs_of_another_model_took_says_nothing(center: Center, dataset_id: int) -> None:
    center.make_job(dataset_id)
    claim = started(center)
    with center.database.write() as session:
        session.exec(select(Attempt)).one().started_at -= timedelta(seconds=500)
    claim.succeed()
    same, other, last = (center.make_job(dataset_id)["id"] for _ in range(3))
    with center.database.write() as session:
        for number in (same, other):
            session.get_one(Job, number).estimate = {}
        session.get_one(Job, other).model = "another"
    assert center.job(same)["expected_end_at"] > iso(utc_now() + timedelta(seconds=400))
    assert center.job(other)["expected_start_at"] and center.job(other)["expected_end_at"] is None
    assert center.job(last)["expected_start_at"] is None
