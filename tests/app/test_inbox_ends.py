from collections.abc import Iterator

import pytest

from tests.factories import Center, jsonl, rows
from tests.inbox_box import Box


@pytest.fixture
def box(center: Center) -> Iterator[Box]:
    box = Box(center)
    box.folder.mkdir(exist_ok=True)
    yield box
    center.app.state.inbox.stop()


def bad_rows(good: int, bad: int) -> bytes:
    return rows(good) + jsonl(*[{"messages": [{"role": "user", "content": str(i)}]} for i in range(bad)])


def test_too_many_lines_in_error_put_a_file_into_quarantine_with_its_report(box: Box) -> None:
    box.drop("a.jsonl", bad_rows(9, 1))
    box.step()
    assert box.one()["state"] == "quarantined" and "1 of 10 lines (10 %)" in box.one()["reason"]
    report = box.paper("quarantine/a.jsonl.report.json")
    assert (report["records"], report["valid"], report["counts"]["no_answer"]) == (10, 9, 1)
    assert [one["line"] for one in report["findings"] if one["severity"] == "error"] == [10]
    assert "quarantine/a.jsonl" in box.files() and box.center.get("/api/jobs").json()["items"] == []


def test_few_lines_in_error_are_left_out_and_reported(box: Box) -> None:
    box.drop("a.jsonl", bad_rows(39, 1))
    box.step()
    assert box.one()["reason"] == "1 of 40 lines cannot be trained and are left out."
    box.claim().succeed()
    box.step()
    findings = box.paper("archive/a.jsonl.report.json")["findings"]
    assert [one["line"] for one in findings if one["severity"] == "error"] == [40]
    assert box.paper("archive/a.jsonl.manifest.json")["valid"] == 39


def test_a_refused_file_is_mended_in_quarantine_and_replayed(box: Box) -> None:
    box.drop("a.jsonl", b"nothing\n")
    box.step()
    assert (box.one()["state"], box.one()["reason"][:10]) == ("quarantined", "No line of")
    (box.folder / "quarantine/a.jsonl").write_bytes(rows(5))
    box.center.post("/api/inbox/1/replay")
    box.step()
    assert (box.states(), box.files()) == (["queued"], ["a.jsonl", "a.jsonl.yaml"])


def test_nothing_is_overwritten_in_the_archive(box: Box) -> None:
    for content in (rows(30), rows(31)):
        box.drop("a.jsonl", content)
        box.step()
        box.claim().succeed()
        box.step()
    assert [name for name in box.files() if name.endswith("jsonl")] == ["archive/a-2.jsonl", "archive/a.jsonl"]
    assert (box.folder / "archive/a.jsonl").read_bytes() == rows(30)
    assert box.paper("archive/a-2.jsonl.manifest.json")["job"] == 2


def test_a_failed_file_stays_findable_and_can_be_replayed(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    box.claim().end("failed", error={"code": "data_fault", "message": "Line 3 is odd.", "advice": ""})
    box.step()
    assert (box.one()["state"], box.one()["place"]) == ("failed", "failed/a.jsonl")
    assert "Line 3 is odd." in box.one()["reason"]
    box.center.post("/api/inbox/1/replay")
    box.step()
    assert (box.one()["job_id"], box.files()) == (2, ["a.jsonl", "a.jsonl.yaml"])


def test_a_failed_file_follows_its_job_when_that_is_tried_again(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    box.claim().end("failed", error={"code": "data_fault", "message": "Odd.", "advice": ""})
    box.step()
    box.center.act(1, "retry")
    box.step()
    assert box.states() == ["queued"]
    box.claim().succeed()
    box.step()
    assert box.files() == ["archive/a.jsonl", "archive/a.jsonl.manifest.json", "archive/a.jsonl.yaml"]


def test_an_archived_file_is_trained_again_when_replayed(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    box.claim().succeed()
    box.step()
    box.center.post("/api/inbox/1/replay")
    box.step()
    assert (box.one()["state"], box.one()["job_id"]) == ("queued", 2)
    assert box.paper("archive/a.jsonl.manifest.json")["job"] == 1


def test_what_is_under_way_is_neither_replayed_nor_dismissed(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    answers = [box.center.post(f"/api/inbox/1/{action}").status_code for action in ("replay", "dismiss")]
    assert (answers, box.center.post("/api/inbox/9/replay").status_code) == ([409, 409], 404)


def test_a_file_that_ended_is_taken_off_the_list_and_stays_on_disk(box: Box) -> None:
    box.drop("a.jsonl", b"nothing\n")
    box.step()
    assert box.center.post("/api/inbox/1/dismiss").status_code == 200
    assert (box.items(), "quarantine/a.jsonl" in box.files()) == ([], True)
    assert box.center.get("/inbox").status_code == 200


def test_a_file_that_is_gone_cannot_be_replayed(box: Box) -> None:
    box.drop("a.jsonl", b"nothing\n")
    box.step()
    (box.folder / "quarantine/a.jsonl").unlink()
    box.center.post("/api/inbox/1/replay")
    box.step()
    assert (box.one()["state"], "not there any more" in box.one()["reason"]) == ("quarantined", True)
    assert box.center.post("/api/inbox/1/replay").status_code == 409
