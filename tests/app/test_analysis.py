import threading

import pytest

from app.analysis import Analysis
from tests.factories import Center, rows


def test_a_check_that_breaks_down_twice_over_does_not_stop_the_next(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Analysis, "_begin", broken)
        patch.setattr(Analysis, "_fail", broken)
        assert center.upload(rows(3, "a"))["state"] == "checking"
    assert center.upload(rows(3, "b"))["state"] == "ready"


def test_a_file_that_went_away_fails_its_dataset_with_the_reason(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = center.app.state.storage
    monkeypatch.setattr(type(storage), "dataset", lambda self, sha256: self.root / "gone" / sha256)
    monkeypatch.setattr("app.storage.Received.keep", lambda self, target: None)
    dataset = center.upload(rows(3, "c"))
    dataset = center.wait_for_dataset(dataset["id"])
    assert dataset["state"] == "failed" and dataset["error"]


def test_a_check_that_is_stopped_just_as_it_begins_stays_stopped(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis: Analysis = center.app.state.analysis
    begun, fail = threading.Event(), analysis._fail
    begin = analysis._begin

    def begin_and_tell(dataset_id: int) -> list[str] | None:
        try:
            return begin(dataset_id)
        finally:
            begun.set()

    def fail_late(dataset_id: int, message: str) -> None:
        begun.wait(60)
        fail(dataset_id, message)

    monkeypatch.setattr("app.routes.datasets.SMALL_WAIT_S", 0.0)
    monkeypatch.setattr(analysis, "_begin", begin_and_tell)
    monkeypatch.setattr(analysis, "_fail", fail_late)
    first = center.upload(b"".join(rows(2_000, str(part)) for part in range(5)))["id"]
    waiting = center.upload(rows(5, "b"))["id"]
    begun.clear()
    stopped = []
    thread = threading.Thread(target=lambda: stopped.append(center.post(f"/api/datasets/{waiting}/cancel")))
    thread.start()
    center.wait_for_dataset(first)
    thread.join()
    assert [one.status_code for one in stopped] == [200]
    assert center.upload(rows(3, "c"))["state"] in ("checking", "ready")
    shown = center.get(f"/api/datasets/{waiting}").json()
    assert (shown["state"], shown["error"][:21]) == ("failed", "Its check was stopped")


def test_a_dataset_that_is_asked_for_twice_is_checked_once_and_can_be_stopped(center: Center) -> None:
    analysis: Analysis = center.app.state.analysis
    dataset = center.upload(rows(3, "a"))["id"]
    center.client.portal.call(analysis.add, dataset)  # type: ignore[union-attr]
    center.client.portal.call(analysis.add, dataset)  # type: ignore[union-attr]
    assert center.upload(rows(3, "b"))["state"] == "ready"
    assert analysis._finished == {} and analysis._queued == set() and analysis._stopped == set()
