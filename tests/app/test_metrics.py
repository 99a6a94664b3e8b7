import random

import pytest

from app.services.metrics import thin
from tests.factories import Center


@pytest.mark.parametrize("max_points", [1, 2, 3, 7, 100, 2000])
def test_thinning_keeps_the_extremes_and_the_limit(max_points: int) -> None:
    rng = random.Random(max_points)
    rows = [(step, rng.gauss(0, 1), rng.random()) for step in range(5000)]
    rows[1234] = (1234, 99.0, 0.5)
    kept = thin(rows, (1, 2), max_points)
    assert len(kept) <= max_points and kept == sorted(set(kept))
    assert 1234 in kept


def test_nothing_is_thinned_where_there_is_room() -> None:
    assert thin([(1, 2.0)] * 10, (1,), 10) == list(range(10))


def test_gaps_survive_thinning() -> None:
    rows = [(step, None) for step in range(100)]
    assert 1 <= len(thin(rows, (1,), 10)) <= 10


def test_a_range_of_steps_can_be_asked_for(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(*[claim.step(step, float(step)) for step in range(1, 51)])
    place = f"/api/jobs/{claim.job_id}/metrics"
    assert center.get(f"{place}?from_step=10&to_step=12").json()["step"] == [10, 11, 12]
    assert len(center.get(f"{place}?max_points=5").json()["step"]) <= 5
    assert center.get(f"{place}?max_points=0").status_code == 422


def test_evaluations_and_log_are_shown(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(claim.event("eval", step=2, loss=1.25, num_targets=9), claim.event("log", level="warning", text="hot"))
    assert center.get(f"/api/jobs/{claim.job_id}/metrics").json()["eval"] == {"step": [2], "loss": [1.25]}
    assert center.get(f"/api/jobs/{claim.job_id}/log").text.endswith("WARNING hot\n")
