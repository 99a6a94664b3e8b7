import time

import pytest
from sqlmodel import select

from app.models import Event, Job
from app.services import attempts, datasets
from tests.factories import Center, Claim, rows


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job()
    return center.worker().must_claim()


def expire_lease(center: Center, job_id: int) -> None:
    with center.database.write() as session:
        session.get_one(Job, job_id).lease_until = time.time() - 1
    with center.database.write() as session:
        attempts.reap(session)


def kinds(center: Center, job_id: int) -> list[tuple[str, int]]:
    with center.database.read() as session:
        query = select(Event).where(Event.job_id == job_id, Event.superseded == False)  # noqa: E712
        return [(event.kind, event.seq or 0) for event in session.exec(query)]


def test_an_idle_lane_gets_nothing(center: Center) -> None:
    assert center.worker().claim() is None


def test_a_claim_tells_all_a_trainer_needs(center: Center) -> None:
    job = center.make_job(config={"seed": 7})
    body = center.worker().must_claim().body
    assert (body["job_id"], body["attempt"], body["resume"], body["validation_dataset"]) == (job["id"], 1, None, None)
    assert body["config"]["seed"] == 7 and body["dataset"]["id"] == job["dataset_ids"][0]
    assert (center.job(job["id"])["state"], center.job(job["id"])["lane"]) == ("claimed", "workshop/cpu")


def test_a_job_is_given_to_one_lane_alone(center: Center) -> None:
    center.make_job()
    first, second = center.worker("a"), center.worker("b")
    assert first.claim() is not None
    assert second.claim() is None


def test_the_dataset_is_served_to_the_holder(center: Center, claim: Claim) -> None:
    place = f"/api/worker/jobs/{claim.job_id}/dataset"
    assert center.client.get(place, headers=claim.headers).content == rows(30)
    part = center.client.get(place, headers=claim.headers | {"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, rows(30)[:10])
    assert center.client.get(place, headers=claim.headers | {"X-Attempt": "9"}).status_code == 409


def test_steps_become_metrics_and_progress(center: Center, claim: Claim) -> None:
    claim.begin()
    answer = claim.beat(claim.step(1, 2.5), claim.step(2, None))
    assert answer.json() == {"commands": [], "mark": 0, "seq": 4}
    job = center.job(claim.job_id)
    assert (job["state"], job["phase"], job["step"], job["num_steps"], job["eta_s"]) == (
        "running",
        "training",
        2,
        100,
        9.0,
    )
    metrics = center.get(f"/api/jobs/{claim.job_id}/metrics").json()
    assert (metrics["step"], metrics["loss"]) == ([1, 2], [2.5, None])


def test_events_sent_twice_count_once(center: Center, claim: Claim) -> None:
    events = [claim.step(1), claim.step(2)]
    for _ in range(3):
        assert claim.beat(*events).json()["seq"] == 2
    assert kinds(center, claim.job_id).count(("step", 1)) == 1
    assert len(center.get(f"/api/jobs/{claim.job_id}/metrics").json()["step"]) == 2


def test_a_gap_is_not_stored_and_asked_for_again(center: Center, claim: Claim) -> None:
    first, second, third = claim.step(1), claim.step(2), claim.step(3)
    assert claim.beat(first, third).json()["seq"] == 1
    assert claim.beat(second, third).json()["seq"] == 3


@pytest.mark.parametrize(
    "event", [{"kind": "odd", "seq": 1}, {"kind": "step", "seq": 0}, {"kind": "step", "seq": 1}, {"seq": True}]
)
def test_an_event_without_sense_is_refused(claim: Claim, event: dict[str, object]) -> None:
    assert claim.beat(event).status_code == 422


def test_a_wrong_pair_is_fenced_everywhere(center: Center, claim: Claim) -> None:
    for headers in (claim.headers | {"X-Claim-Token": "x"}, claim.headers | {"X-Attempt": "2"}):
        claim.headers = headers
        assert claim.beat().status_code == 409
        assert claim.end("failed").status_code == 409
        assert claim.put("checkpoints/a", b"x").status_code == 409
    assert center.job(claim.job_id)["state"] == "claimed"


def test_commands_are_repeated_until_the_end_and_save_comes_once(center: Center, claim: Claim) -> None:
    claim.begin()
    center.act(claim.job_id, "save")
    reply = claim.beat().json()
    assert reply["commands"] == ["save"]
    claim.post("beat", {"events": [], "heard": reply["mark"]})
    assert claim.beat().json()["commands"] == []
    assert center.act(claim.job_id, "cancel").json()["asked"] == "cancel"
    assert [claim.beat().json()["commands"] for _ in range(2)] == [["cancel"], ["cancel"]]
    center.act(claim.job_id, "cancel", {"save": False})
    assert claim.beat().json()["commands"] == ["stop"]
    assert claim.end("cancelled").json()["state"] == "cancelled"


def test_pause_and_resume_go_on_from_the_checkpoint(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    center.act(claim.job_id, "pause")
    claim.checkpoint(1)
    assert claim.end("paused").json()["state"] == "paused"
    assert center.act(claim.job_id, "resume").json()["state"] == "queued"
    second = worker.must_claim()
    assert (second.body["attempt"], second.body["resume"]["step"], second.body["resume"]["attempt"]) == (2, 1, 1)
    file = second.body["resume"]["files"][0]
    place = f"/api/worker/jobs/{claim.job_id}/files/{file['path']}?attempt=1"
    assert center.client.get(place, headers=second.headers).content == b"weights"


def test_success_registers_the_adapter_before_the_answer(center: Center, claim: Claim) -> None:
    claim.begin()
    answer = claim.succeed().json()
    assert answer["state"] == "succeeded" and answer["adapter_id"] == center.job(claim.job_id)["adapter_id"]
    assert claim.end("succeeded").json() == answer
    adapter = center.get(f"/api/adapters/{answer['adapter_id']}").json()
    assert adapter["manifest"] == {"seed": 42} and len(adapter["files"]) == 4


def test_success_without_the_files_is_refused(center: Center, claim: Claim) -> None:
    claim.begin()
    files = [{"path": "adapter_model.safetensors", "size": 1, "sha256": "0" * 64}]
    assert claim.end("succeeded", adapter={"files": files}).status_code == 422
    assert center.job(claim.job_id)["state"] == "running"


def test_a_failure_keeps_its_reason(center: Center, claim: Claim) -> None:
    error = {"code": "non_finite_loss", "message": "The loss became NaN at step 7.", "advice": "Lower the rate."}
    claim.end("failed", error=error)
    job = center.job(claim.job_id)
    assert (job["state"], job["error"]) == ("failed", error)
    assert center.act(claim.job_id, "retry").json()["state"] == "queued"


def test_a_lost_lease_queues_the_job_again_and_fences_the_old_attempt(center: Center, claim: Claim) -> None:
    claim.begin()
    expire_lease(center, claim.job_id)
    assert center.job(claim.job_id)["state"] == "queued"
    assert claim.beat().status_code == 409
    assert claim.end("succeeded").status_code == 409
    assert center.worker("other").must_claim().body["attempt"] == 2


def test_a_lost_lease_while_stopping_is_a_stop(center: Center, claim: Claim) -> None:
    center.act(claim.job_id, "cancel")
    expire_lease(center, claim.job_id)
    assert center.job(claim.job_id)["state"] == "cancelled"


def test_a_lane_that_claims_again_gives_up_what_it_held(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    first = worker.must_claim()
    second = worker.must_claim()
    assert (first.body["attempt"], second.body["attempt"]) == (1, 2)
    assert first.beat().status_code == 409


def test_crashes_are_tried_again_until_there_were_too_many(center: Center) -> None:
    job = center.make_job(retries=2)
    worker = center.worker()
    for step in range(1, 4):
        claim = worker.must_claim()
        claim.begin()
        claim.beat(claim.step(step))
        state = claim.end("crashed", error={"code": "killed", "message": "Killed."}, exit={"signal": 9}).json()["state"]
        assert state == ("failed" if step == 3 else "queued")
    assert center.job(job["id"])["error"]["code"] == "killed"


def test_the_same_crash_twice_without_a_step_fails_at_once(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    states = []
    for _ in range(2):
        claim = worker.must_claim()
        states.append(
            claim.end("crashed", error={"code": "killed", "message": "Killed."}, exit={"signal": 11}).json()["state"]
        )
    assert states == ["queued", "failed"]


def test_a_released_job_goes_back_and_counts_no_fault(center: Center, claim: Claim) -> None:
    claim.begin()
    assert claim.end("released").json()["state"] == "queued"
    with center.database.read() as session:
        assert session.get_one(Job, claim.job_id).faults == 0


def test_a_resumed_attempt_supersedes_the_steps_beyond_its_checkpoint(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    first = worker.must_claim()
    first.begin()
    first.beat(*[first.step(step, 1.0) for step in (1, 2)])
    first.checkpoint(2)
    first.beat(first.step(3, 1.0), first.step(4, 1.0))
    first.end("crashed", exit={"signal": 9})
    second = worker.must_claim()
    assert second.body["resume"]["step"] == 2
    second.begin(resume_step=2)
    assert center.get(f"/api/jobs/{first.job_id}/metrics").json()["step"] == [1, 2]
    second.beat(second.step(3, 0.5))
    metrics = center.get(f"/api/jobs/{first.job_id}/metrics").json()
    assert (metrics["step"], metrics["loss"], metrics["attempt"]) == ([1, 2, 3], [1.0, 1.0, 0.5], [1, 1, 2])
    assert kinds(center, first.job_id).count(("step", 5)) == 0  # step 3 of the first attempt


def test_a_retry_starts_at_step_0_although_there_is_a_checkpoint(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    first = worker.must_claim()
    first.begin()
    first.beat(first.step(1))
    first.checkpoint(1)
    first.end("failed", error={"code": "x", "message": "m"})
    center.act(first.job_id, "retry")
    second = worker.must_claim()
    assert second.body["resume"] is None
    second.begin(resume_step=0)
    assert center.get(f"/api/jobs/{first.job_id}/checkpoints").json()["items"] == []


def test_late_events_are_welcome_up_to_the_resume_point_alone(center: Center) -> None:
    center.make_job()
    first = center.worker("a").must_claim()
    first.begin()
    first.beat(first.step(1))
    first.checkpoint(1)
    late = [
        first.event("log", level="info", text="late"),
        first.step(2),
        first.event("state", state="running", phase="x"),
    ]
    expire_lease(center, first.job_id)
    second = center.worker("b").must_claim()
    second.begin(resume_step=1)
    assert first.beat(*late).status_code == 409
    assert first.beat(*late, earlier=True).json()["seq"] == first.seq
    assert "late" in center.get(f"/api/jobs/{first.job_id}/log").text
    assert center.get(f"/api/jobs/{first.job_id}/metrics").json()["step"] == [1]
    assert first.end("succeeded").status_code == 409


def test_resolved_settings_show_on_the_job(center: Center, claim: Claim) -> None:
    claim.beat(claim.event("state", phase="planning", resolved={"num_steps": 60, "eval_steps": 3, "num_train": 29}))
    job = center.job(claim.job_id)
    assert (job["num_steps"], job["config"]["eval_steps"], job["resolved"]["num_train"]) == (60, 3, 29)


def test_leases_are_extended_when_the_web_process_starts(center: Center, claim: Claim) -> None:
    with center.database.write() as session:
        session.get_one(Job, claim.job_id).lease_until = time.time() - 1
        attempts.extend_leases(session, 60)
        assert attempts.reap(session) == 0


def test_a_job_waits_for_its_dataset_and_falls_with_it(center: Center) -> None:
    dataset = center.upload(rows(5))
    with center.database.write() as session:
        datasets.get(session, dataset["id"]).state = "checking"
    job = center.make_job(dataset["id"])
    assert job["waiting_for"]["id"] == dataset["id"]
    assert center.worker().claim() is None
    with center.database.write() as session:
        datasets.fail(session, datasets.get(session, dataset["id"]), "broken")
    ended = center.job(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("cancelled", "dataset_refused")
