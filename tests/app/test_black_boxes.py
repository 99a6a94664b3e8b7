import json
from typing import Any

import pytest

from app.models import Lane
from app.services.black_boxes import newest_that_fit, shorten
from tests.app.test_execution import expire_lease
from tests.factories import Center, Claim

OOM = {"code": "oom_killed", "message": "The memory of the system ran out.", "advice": "Lower max_length."}


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    return claim


def box_of(center: Center, job_id: int, number: int = 1) -> dict[str, Any]:
    answer = center.get(f"/api/jobs/{job_id}/attempts/{number}/black-box")
    assert answer.status_code == 200, answer.text
    box: dict[str, Any] = answer.json()
    return box


def crash(claim: Claim, error: dict[str, Any] = OOM, log: list[str] | None = None) -> dict[str, Any]:
    answer = claim.end("crashed", error=error, exit={"code": 0, "signal": 9}, log=log or ["counting", "Killed"])
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_crash_leaves_a_black_box_with_all_that_was_last_seen(center: Center, claim: Claim) -> None:
    center.worker().beat({"vram_used": 7, "temperature": 61})
    claim.beat(claim.step(1), claim.step(2))
    crash(claim)
    box = box_of(center, claim.job_id)
    assert (box["outcome"], box["error"], box["exit"]) == ("fault", OOM, {"code": 0, "signal": 9})
    assert box["log"][-2:] == ["counting", "Killed"] and box["telemetry"][-1]["temperature"] == 61
    assert [one["data"]["step"] for one in box["events"] if one["kind"] == "step"] == [1, 2]


def test_the_log_of_a_lost_node_is_what_arrived_as_events(center: Center, claim: Claim) -> None:
    claim.beat(claim.event("log", level="info", text="the last that was heard"))
    with center.database.write() as session:
        lane = session.get_one(Lane, 1)
        lane.last_seen_at = lane.last_seen_at.replace(year=2020)
    expire_lease(center, claim.job_id)
    box = box_of(center, claim.job_id)
    assert box["error"]["code"] == "node_lost" and "machine" in box["error"]["message"]
    assert box["log"][-2].endswith("the last that was heard")


def test_a_lane_that_still_beats_is_not_a_lost_node(center: Center, claim: Claim) -> None:
    center.worker().beat()
    expire_lease(center, claim.job_id)
    assert box_of(center, claim.job_id)["error"]["code"] == "lease_lost"


def test_a_job_lost_while_stopping_has_its_black_box_too(center: Center, claim: Claim) -> None:
    center.act(claim.job_id, "cancel")
    expire_lease(center, claim.job_id)
    assert center.job(claim.job_id)["state"] == "cancelled"
    assert box_of(center, claim.job_id)["outcome"] == "cancelled"


def test_attempts_are_listed_with_what_became_of_them(center: Center, claim: Claim) -> None:
    claim.beat(claim.step(1))
    crash(claim)
    center.worker().must_claim().succeed()
    first, second = center.get(f"/api/jobs/{claim.job_id}/attempts").json()["items"]
    assert (first["number"], first["lane"], first["outcome"], first["resume_step"]) == (1, "workshop/cpu", "fault", 0)
    assert first["error"] == OOM and first["black_box"] and first["ended_at"] > first["started_at"]
    assert (second["outcome"], second["error"], second["black_box"]) == ("succeeded", None, False)


@pytest.mark.parametrize("number", [1, 2])
def test_an_attempt_without_a_black_box_says_so(center: Center, claim: Claim, number: int) -> None:
    answer = center.get(f"/api/jobs/{claim.job_id}/attempts/{number}/black-box")
    assert answer.status_code == 404 and "attempt" in answer.json()["error"]["message"].lower()


def test_a_black_box_holds_the_last_of_much_within_its_bounds(center: Center, claim: Claim) -> None:
    long = "ä" * 2000
    claim.beat(*[claim.event("log", level="info", text=f"{number} {long}") for number in range(300)])
    crash(claim, log=[f"{number} {long}" for number in range(1000)])
    box = box_of(center, claim.job_id)
    assert len(json.dumps(box, ensure_ascii=False).encode()) < 256 * 1024
    assert box["log"][-1].startswith("999 ") and 50 < len(box["events"]) <= 200


def test_texts_and_lists_are_cut_and_the_newest_items_kept() -> None:
    assert shorten({"a": ["x" * 2000] * 50})["a"] == ["x" * 1000 + " ..."] * 20
    assert newest_that_fit(["aaaa", "bbbb", "cccc"], 16) == ["bbbb", "cccc"]


def test_a_damaged_checkpoint_is_not_chosen_again(center: Center, claim: Claim) -> None:
    claim.beat(claim.step(1), claim.step(2))
    claim.checkpoint(1)
    claim.checkpoint(2)
    crash(claim)
    second = center.worker().must_claim()
    assert second.body["resume"]["step"] == 2
    broken = {"code": "checkpoint_broken", "message": "The checkpoint step-00000002 is damaged.", "advice": "None."}
    assert crash(second, broken)["state"] == "queued"
    third = center.worker().must_claim()
    assert third.body["resume"]["step"] == 1
    assert center.get(f"/api/jobs/{claim.job_id}/metrics").json()["step"] == [1]


def test_damaged_checkpoints_do_not_use_up_the_retries(center: Center) -> None:
    job = center.make_job(retries=0)
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    claim.checkpoint(1)
    claim.end("paused")
    center.act(job["id"], "resume")
    broken = {"code": "checkpoint_broken", "message": "It is damaged.", "advice": "None."}
    assert crash(center.worker().must_claim(), broken)["state"] == "queued"
    assert center.worker().must_claim().body["resume"] is None


def test_the_page_tells_what_happened_and_what_to_do(center: Center, claim: Claim) -> None:
    center.worker().beat({"vram_used": 7 * 2**30, "temperature": 61})
    assert "<details" not in center.get(f"/jobs/{claim.job_id}/_black_box").text
    crash(claim, log=["<b>counting</b>"])
    shown = center.get(f"/jobs/{claim.job_id}/_black_box").text
    assert OOM["message"] in shown and OOM["advice"] in shown and "61 °C" in shown
    assert "&lt;b&gt;counting" in shown and "signal 9" in shown
    assert "Black box of attempt 1" in center.get(f"/jobs/{claim.job_id}").text


@pytest.mark.parametrize(("action", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_trainer_that_dies_before_it_saved_for_a_stop_is_told_of(center: Center, action: str, state: str) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    center.act(claim.job_id, action)
    error = {"code": "killed", "message": "Something ended it with SIGKILL.", "advice": ""}
    assert claim.end("crashed", error=error, exit={"code": 0, "signal": 9}).json()["state"] == state
    job = center.job(claim.job_id)
    assert job["error"]["message"] == (
        "Something ended it with SIGKILL. That was before it had saved what it was asked to."
    )
    assert center.get(f"/api/jobs/{claim.job_id}/attempts/1/black-box").status_code == 200
