import re
from datetime import timedelta

import pytest
from sqlmodel import select

from app.columns import utc_now
from app.models import Attempt
from tests.factories import Center, Claim


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job(name="held")
    claim = center.worker().must_claim()
    claim.begin()
    return claim


def menu(center: Center, job_id: int = 1) -> set[str]:
    """What the buttons of the head ask for."""
    return set(re.findall(r'action="/jobs/\d+/(\w+)"', center.get(f"/jobs/{job_id}/_head").text))


def test_a_running_job_has_the_buttons_its_state_allows(center: Center, claim: Claim) -> None:
    assert menu(center) == {"pause", "cancel", "save", "sample", "preempt", "priority"}


def test_a_queued_job_is_moved_and_stopped_but_not_paused(center: Center) -> None:
    center.make_job()
    assert menu(center) == {"cancel", "move", "priority"}


def test_a_failed_job_is_retried(center: Center, claim: Claim) -> None:
    claim.end("failed", error={"code": "x", "message": "It broke.", "advice": ""})
    assert menu(center) >= {"retry"} and not menu(center) & {"cancel", "pause", "save", "preempt"}


@pytest.mark.parametrize(("action", "command"), [("save", "save"), ("sample", "sample"), ("pause", "pause")])
def test_a_button_reaches_the_trainer(center: Center, claim: Claim, action: str, command: str) -> None:
    assert center.post(f"/jobs/1/_{action}").status_code == 204
    assert claim.beat().json()["commands"] == [command]


def test_a_job_that_makes_way_says_for_which(center: Center, claim: Claim) -> None:
    center.make_job(1, name="urgent one")
    answer = center.post("/jobs/1/_preempt")
    assert "held saves and lets job 2 go first." in answer.headers["hx-trigger"]
    assert "let another job go first (job 2)" in center.get("/jobs/1/_history").text


def test_the_history_tells_who_did_what_newest_first(center: Center, claim: Claim) -> None:
    center.act(1, "priority", {"priority": "high"})
    center.client.post("/jobs/1/_cancel", headers=center.headers, data={"save": "false"})
    told = re.findall(
        r'<li class="row"><span><span class="muted">([^<]*):</span> ([^<]*)</span>', center.get("/jobs/1").text
    )
    words = ["stopped it at once", "changed its priority to high", "added it"]
    assert told == [("By REST", one) for one in words]


def test_every_attempt_has_its_lane_its_end_and_its_reason(center: Center, claim: Claim) -> None:
    claim.end("crashed", error={"code": "killed", "message": "It was killed.", "advice": ""})
    center.worker().must_claim()
    shown = center.get("/jobs/1/_history").text
    assert re.findall(r"Attempt (\d)", shown) == ["2", "1"]
    assert "In work" in shown and "Ended by a fault" in shown and "It was killed." in shown and "workshop/cpu" in shown


def test_a_queued_job_says_when_it_is_expected_to_start(center: Center, claim: Claim) -> None:
    claim.beat(claim.step(1))
    center.make_job(1)
    assert "starts ≈" in center.get("/jobs/2/_head").text


def test_a_job_took_the_time_of_its_attempts_and_not_what_lay_between(center: Center, claim: Claim) -> None:
    claim.end("paused")
    center.act(1, "resume")
    center.worker().must_claim().succeed()
    with center.database.write() as session:
        for one in session.exec(select(Attempt)):
            # Ten minutes each, with an hour between them.
            one.started_at = utc_now() - timedelta(minutes=200 - 70 * one.number)
            one.ended_at = one.started_at + timedelta(minutes=10)
    assert "Finished in 20 min" in center.get("/jobs/1/_head").text
    assert "took <b>20 min</b>" in center.get("/jobs/1/_progress").text
