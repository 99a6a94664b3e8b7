from datetime import UTC, datetime

import pytest
from sqlmodel import select

from app.models import Event
from app.services import nodes, settings
from app.services.opening import Opening, QuietHours
from tests.factories import Center

NIGHT = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Paris"}


def quiet(at: str, **hours: object) -> str | None:
    end = Opening(quiet_hours=[QuietHours.model_validate(NIGHT | hours)]).quiet_until(datetime.fromisoformat(at))
    return end.astimezone(UTC).strftime("%a %H:%M") if end else None


# 2026-01-05 is a Monday; Paris is one hour ahead of UTC in winter, two in summer.
@pytest.mark.parametrize(
    ("at", "hours", "until"),
    [
        ("2026-01-05T20:59Z", {}, None),
        ("2026-01-05T21:00Z", {}, "Tue 06:00"),
        ("2026-01-06T05:59Z", {}, "Tue 06:00"),
        ("2026-01-06T06:00Z", {}, None),
        ("2026-07-06T20:30Z", {}, "Tue 05:00"),
        ("2026-01-06T03:00Z", {"days": ["mon"]}, "Tue 06:00"),
        ("2026-01-05T03:00Z", {"days": ["mon"]}, None),
        ("2026-01-05T12:00Z", {"from": "00:00", "to": "00:00"}, "Mon 23:00"),
        ("2026-01-05T12:00Z", {"from": "12:00", "to": "14:00"}, "Mon 13:00"),
        # Half past two comes twice when the clocks go back, and ends a night once, the second time.
        ("2026-10-25T00:45Z", {"to": "02:30"}, "Sun 01:30"),
        ("2026-10-25T01:15Z", {"to": "02:30"}, "Sun 01:30"),
        ("2026-10-25T01:40Z", {"to": "02:30"}, None),
        ("2026-03-29T00:45Z", {"to": "02:30"}, "Sun 01:30"),
    ],
)
def test_quiet_hours_are_those_of_their_zone_and_their_days(at: str, hours: dict[str, object], until: str) -> None:
    assert quiet(at, **hours) == until


@pytest.mark.parametrize("wrong", ["22:0\u0663", "24:00", "7:00", "22:00 ", ""])
def test_what_is_no_time_of_day_is_refused_in_words(center: Center, wrong: str) -> None:
    body = {"quiet_hours": [NIGHT | {"from": wrong}]}
    answer = center.client.put("/api/queue", headers=center.headers, json=body)
    assert answer.status_code == 422 and "22:00" in answer.json()["error"]["message"]


def test_hours_that_can_no_longer_be_read_do_not_stop_the_queue(center: Center) -> None:
    with center.database.write() as session:
        kept = {"paused": False, "quiet_hours": [NIGHT | {"time_zone": "Gone/Zone"}], "changed_by": "page"}
        settings.put(session, "queue", kept)
    assert center.get("/api/queue").json()["quiet_hours"] == []


def test_hours_that_never_end_let_nobody_expect_a_start() -> None:
    always = Opening(quiet_hours=[QuietHours.model_validate({"from": "00:00", "to": "00:00"})])
    assert always.open_from(datetime(2026, 1, 5, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        ({}, "quiet hours until 07:00 Europe/Paris"),
        ({"from": "05:00", "to": "05:00"}, "quiet hours at all times"),
        ({"from": "00:00", "to": "00:00", "days": ["mon", "tue", "wed"]}, "quiet hours until Thu 00:00 Europe/Paris"),
    ],
)
def test_a_closed_queue_says_until_when_and_in_which_zone(hours: dict[str, object], words: str) -> None:
    closed = Opening(quiet_hours=[QuietHours.model_validate(NIGHT | hours)]).closed(
        datetime(2026, 1, 5, 23, tzinfo=UTC)
    )
    assert closed is not None and closed["message"] == words


def test_a_paused_queue_begins_nothing_and_lets_go_on_what_runs(center: Center) -> None:
    center.make_job()
    worker = center.worker("a")
    claim = worker.must_claim()
    assert center.client.put("/api/queue", headers=center.headers, json={"paused": True}).json()["changed_by"] == "api"
    job = center.make_job()
    assert job["waiting_for"]["message"] == "the queue is paused" and job["expected_start_at"] is None
    assert claim.beat().status_code == 200 and center.worker("b").claim() is None
    assert center.act(claim.job_id, "preempt").status_code == 409
    center.client.put("/api/queue", headers=center.headers, json={"paused": False})
    with center.database.read() as session:
        assert nodes.queues_to_wake(session) == ["lane.workshop.b"]
        told = [event.data.get("paused") for event in session.exec(select(Event).where(Event.kind == "queue"))]
    assert [one for one in told if one is not None] == [True, False]
    assert center.worker("b").must_claim().job_id == job["id"]


def test_quiet_hours_stay_until_they_are_taken_away(center: Center) -> None:
    always = {"from": "00:00", "to": "00:00", "time_zone": "UTC"}
    body = {"quiet_hours": [always]}
    shown = center.client.put("/api/queue", headers=center.headers, json=body).json()
    assert shown["quiet_now"] is True and shown["paused"] is False
    assert shown["quiet_hours"][0]["days"] == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    center.worker()
    job = center.make_job()
    assert job["waiting_for"] == {"kind": "quiet_hours", "until": None, "message": "quiet hours at all times"}
    assert center.worker().claim() is None
    center.client.put("/api/queue", headers=center.headers, json={"paused": False})
    assert center.get("/api/queue").json()["quiet_hours"] == shown["quiet_hours"]
    center.client.put("/api/queue", headers=center.headers, json={"quiet_hours": []})
    assert center.worker().must_claim().job_id == job["id"]


@pytest.mark.parametrize(
    "hours", [{"from": "25:00"}, {"days": []}, {"days": ["day"]}, {"time_zone": "Moon/Crater"}, {"x": 1}]
)
def test_hours_without_sense_are_refused(center: Center, hours: dict[str, object]) -> None:
    answer = center.client.put("/api/queue", headers=center.headers, json={"quiet_hours": [NIGHT | hours]})
    assert answer.status_code == 422 and answer.json()["error"]["detail"][0]["field"].startswith("quiet_hours.0.")
