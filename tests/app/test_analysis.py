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
