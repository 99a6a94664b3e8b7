"""Leases when the clock is set or nothing could be written: silence that is not the worker's costs no job."""

import time
from datetime import timedelta
from unittest.mock import Mock

import pytest
from sqlmodel import select

from app.columns import utc_now
from app.models import Attempt, Job
from app.services import attempts, purge, retention
from app.sweep import Sweeper
from tests.factories import Center, Claim, rows


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    return claim


@pytest.fixture
def sweeper(center: Center) -> Sweeper:
    """Its thread has ended: only the test says when it takes a turn. Leases are of 60 s."""
    sweeper: Sweeper = center.app.state.sweeper
    sweeper.stop()
    return sweeper


def lease_of(center: Center, claim: Claim) -> float:
    with center.database.read() as session:
        job = session.get(Job, claim.job_id)
        assert job is not None and job.lease_until is not None
        return job.lease_until


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_takes_no_job_away(
    center: Center, claim: Claim, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "running"
    assert 0 < lease_of(center, claim) - time.time() <= 120
    assert claim.beat(claim.step(1)).status_code == 200


def test_a_worker_that_is_silent_after_the_clock_was_set_still_loses_its_job(
    center: Center, claim: Claim, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    sweeper.sweep()
    sweeper._looked_at = (sweeper._looked_at[0] + 121, sweeper._looked_at[1])
    monkeypatch.setattr(time, "time", lambda: real() - 7200 + 121)
    sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "queued"


def let_the_lease_run_out(center: Center, claim: Claim) -> None:
    with center.database.write() as session:
        job = session.get(Job, claim.job_id)
        assert job is not None
        job.lease_until = time.time() - 1


def test_time_in_which_nothing_could_be_written_is_not_held_against_a_worker(
    center: Center, claim: Claim, sweeper: Sweeper
) -> None:
    let_the_lease_run_out(center, claim)
    sweeper._looked_at = tuple(one - 100 for one in sweeper._looked_at)  # type: ignore[assignment]
    sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "running"
    assert lease_of(center, claim) > time.time()


def test_a_lease_that_ran_out_on_a_full_disk_is_extended(
    center: Center, claim: Claim, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_lease_run_out(center, claim)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "reap", Mock(side_effect=OSError("full")))
        with pytest.raises(OSError, match="full"):
            sweeper.sweep()
    sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "running"
    let_the_lease_run_out(center, claim)
    sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "queued"


def test_what_cannot_be_cleared_away_holds_up_no_lost_job(
    center: Center, claim: Claim, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "expired", Mock(side_effect=PermissionError(13, "immutable")))
    monkeypatch.setattr(retention, "apply", Mock(side_effect=ValueError("odd")))
    passed = later(monkeypatch)
    for _ in range(30):
        passed.append(5.0)
        sweeper.sweep()
    assert center.job(claim.job_id)["state"] == "queued"


def test_a_clock_that_is_set_ahead_ends_no_job_and_empties_no_trash(
    center: Center, claim: Claim, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    thrown = center.upload(rows(3, "thrown"))["id"]
    center.client.delete(f"/api/datasets/{thrown}", headers=center.headers)
    with center.database.write() as session:
        job = session.get_one(Job, claim.job_id)
        job.max_duration_s = 3600.0
        session.add(job)
    real, steady, passed = utc_now, later(monkeypatch), list[timedelta]()
    for name in ("app.sweep.utc_now", "app.services.limits.utc_now"):
        monkeypatch.setattr(name, lambda: real() + sum(passed, timedelta()))
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + sum(passed, timedelta()).total_seconds())
    passed.append(timedelta(days=365))
    sweeper.sweep()
    assert center.job(claim.job_id)["asked"] is None
    assert [one["id"] for one in center.get("/api/trash").json()["items"]] == [thrown]
    # What begins by the new clock is measured by it.
    with center.database.write() as session:
        attempt = session.exec(select(Attempt)).one()
        attempt.started_at = real() + timedelta(days=365, minutes=1)
    steady.append(7200.0)
    monkeypatch.setattr("app.services.limits.utc_now", lambda: real() + timedelta(days=365, hours=2))
    sweeper.sweep()
    assert center.job(claim.job_id)["asked"] == "cancel"


def test_without_a_broker_one_wake_up_is_tried_a_turn(
    center: Center, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_queues_to_wake", lambda: ["lane.a", "lane.b", "lane.c"])
    wake = Mock(return_value=False)
    monkeypatch.setattr(sweeper._waker, "wake", wake)
    sweeper.sweep()
    assert wake.call_count == 1


def later(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Both clocks go on by what is put into the list."""
    wall, steady, passed = time.time, time.monotonic, list[float]()
    monkeypatch.setattr(time, "time", lambda: wall() + sum(passed))
    monkeypatch.setattr(time, "monotonic", lambda: steady() + sum(passed))
    return passed
