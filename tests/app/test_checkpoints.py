from datetime import timedelta

import pytest
from sqlmodel import col, select

from app.columns import utc_now
from app.models import Event
from app.services import checkpoints
from tests.factories import Center, Claim, described


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job()
    return center.worker().must_claim()


def test_a_checkpoint_counts_once_its_files_are_here_with_their_hashes(center: Center, claim: Claim) -> None:
    claim.begin()
    file = {"path": "checkpoints/s/a", "size": 7, "sha256": "0" * 64}
    claim.beat(claim.step(1), claim.event("checkpoint", step=1, size=7, path="checkpoints/s", files=[file]))
    place = f"/api/jobs/{claim.job_id}/checkpoints"
    assert claim.put("checkpoints/s/a", b"weights", sha256="0" * 64).status_code == 409
    assert claim.put("checkpoints/s/a", b"weights").status_code == 200
    assert center.get(place).json()["items"] == []
    claim.checkpoint(1, b"other")
    assert [one["step"] for one in center.get(place).json()["items"]] == [1]


def test_a_checkpoint_is_told_of_again_when_its_last_file_is_here(center: Center, claim: Claim) -> None:
    claim.begin()
    files = [described(content) | {"path": f"checkpoints/s/{name}"} for name, content in (("a", b"one"), ("b", b"two"))]
    claim.beat(claim.step(1), claim.event("checkpoint", step=1, size=6, path="checkpoints/s", files=files))

    def told() -> list[tuple[bool, bool]]:
        with center.database.read() as session:
            rows = session.exec(select(Event).where(Event.kind == "checkpoint").order_by(col(Event.id))).all()
            return [((row.seq or 0) > 0, row.data.get("stored", False)) for row in rows if row.step == 1]

    claim.put("checkpoints/s/a", b"one")
    assert told() == [(True, False)]
    claim.put("checkpoints/s/b", b"two")
    assert told() == [(True, False), (False, True)]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "%2e%2e/x", "/etc/x", "a\\..\\x"])
def test_files_stay_inside_the_job(center: Center, claim: Claim, path: str) -> None:
    answer = claim.put(path, b"x")
    assert answer.status_code in (404, 405, 422)
    assert not list(center.app.state.storage.root.rglob("x"))


def test_old_checkpoints_are_removed_and_the_best_one_stays(center: Center) -> None:
    center.make_job(config={"keep_checkpoints": 2})
    claim = center.worker().must_claim()
    claim.begin()
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.5, 2.6], start=1):
        claim.beat(claim.step(step))
        claim.checkpoint(step, b"w%d" % step, eval_loss=loss)
    steps = [one["step"] for one in center.get(f"/api/jobs/{claim.job_id}/checkpoints").json()["items"]]
    assert steps == [5, 4, 2]
    with center.database.write() as session:
        assert checkpoints.remove_retired(session, center.app.state.storage) == 2
    folder = center.app.state.storage.attempt(claim.job_id, 1) / "checkpoints"
    assert sorted(one.name for one in folder.iterdir()) == ["step-00000002", "step-00000004", "step-00000005"]


def test_a_step_saved_twice_is_one_checkpoint(center: Center, claim: Claim) -> None:
    claim.begin()
    claim.beat(claim.step(1))
    claim.checkpoint(1, b"first")
    claim.checkpoint(1, b"second")
    items = center.get(f"/api/jobs/{claim.job_id}/checkpoints").json()["items"]
    assert [(one["step"], one["size"]) for one in items] == [(1, 6)]


def test_an_evaluation_that_is_made_again_after_a_resume_stands_once(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    claim.checkpoint(1)
    claim.beat(claim.event("eval", step=1, loss=2.0, num_targets=3))
    claim.end("crashed", exit={"signal": 9})
    claim = worker.must_claim()
    claim.begin(resume_step=1)
    claim.beat(claim.event("eval", step=1, loss=2.0, num_targets=3))
    with center.database.read() as session:
        found = session.exec(select(Event).where(Event.kind == "eval")).all()
        assert [(one.attempt, one.superseded) for one in found] == [(1, True), (2, False)]


def test_a_checkpoint_that_never_came_whole_goes_once_its_attempt_has_ended(center: Center, claim: Claim) -> None:
    claim.begin()
    files = [described(content) | {"path": f"checkpoints/s/{name}"} for name, content in (("a", b"one"), ("b", b"two"))]
    claim.beat(claim.step(1), claim.event("checkpoint", step=1, size=6, path="checkpoints/s", files=files))
    claim.put("checkpoints/s/a", b"one")
    storage = center.app.state.storage
    place = storage.attempt(claim.job_id, 1) / "checkpoints" / "s" / "a"

    def removed(later: timedelta) -> int:
        with center.database.write() as session:
            return checkpoints.remove_unfinished(session, storage, utc_now() + later)

    assert removed(timedelta(hours=2)) == 0 and place.exists()
    center.act(claim.job_id, "cancel", {"save": False})
    claim.end("cancelled")
    assert removed(timedelta(minutes=1)) == 0 and place.exists()
    assert removed(timedelta(hours=2)) == 1 and not place.exists()
    assert removed(timedelta(hours=2)) == 0
