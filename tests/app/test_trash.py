from datetime import timedelta

import pytest

from app.models import Adapter, Checkpoint, Job, JobState
from app.services import checkpoints, retention
from tests.app.thrown import delete, finished, ids
from tests.factories import Center, rows


@pytest.mark.parametrize("kind", ["datasets", "jobs", "adapters"])
def test_what_is_thrown_away_leaves_the_list_and_comes_back(center: Center, kind: str) -> None:
    finished(center, 1)
    assert delete(center, f"/api/{kind}/1") == 200
    assert (ids(center, f"/api/{kind}"), ids(center, f"/api/{kind}?trashed=true")) == ([], [1])
    (item,) = center.get("/api/trash").json()["items"]
    assert (item["kind"] + "s", item["id"]) == (kind, 1) and item["expires_at"] > item["trashed_at"]
    assert center.post(f"/api/{kind}/1/restore").json()["trashed_at"] is None
    assert ids(center, f"/api/{kind}") == [1]


def test_a_checkpoint_is_thrown_away_alone(center: Center) -> None:
    finished(center, 1, 2)
    first = ids(center, "/api/jobs/1/checkpoints")[-1]
    assert f'hx-post="/trash/checkpoint/{first}/_move"' in center.get("/jobs/1").text
    assert delete(center, f"/api/jobs/1/checkpoints/{first}") == 200
    assert [one["step"] for one in center.get("/api/jobs/1/checkpoints").json()["items"]] == [2]
    assert center.post(f"/api/jobs/1/checkpoints/{first}/restore").status_code == 200
    assert delete(center, f"/api/jobs/2/checkpoints/{first}") == 404


def test_what_a_job_needs_stays(center: Center) -> None:
    finished(center, 1)
    waiting = center.make_job(1, from_adapter=1, config={"lora_r": 32})["id"]
    refused = [delete(center, path) for path in ("/api/datasets/1", "/api/adapters/1", f"/api/jobs/{waiting}")]
    assert refused == [409, 409, 409]
    center.act(waiting, "cancel")
    assert [delete(center, path) for path in ("/api/datasets/1", "/api/adapters/1", f"/api/jobs/{waiting}")] == [
        200
    ] * 3


def test_a_paused_job_keeps_its_newest_checkpoint_alone(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    for step in (1, 2):
        claim.beat(claim.step(step))
        claim.checkpoint(step, b"%d" % step)
    center.act(1, "pause")
    claim.end("paused")
    newest, older = ids(center, "/api/jobs/1/checkpoints")
    assert [delete(center, f"/api/jobs/1/checkpoints/{one}") for one in (newest, older)] == [409, 200]


def test_nothing_in_the_trash_is_used(center: Center) -> None:
    center.make_job()
    center.act(1, "cancel")
    delete(center, "/api/datasets/1")
    answer = center.post("/api/jobs", json={"dataset_id": 1, "model": "tiny-qwen3-vl"})
    assert answer.status_code == 409 and "restore it first" in answer.json()["error"]["message"]
    claim = finished(center, 1)
    delete(center, "/api/adapters/1")
    body = {"dataset_id": 1, "model": "tiny-qwen3-vl", "from_adapter": 1}
    assert claim.job_id == 2 and center.post("/api/jobs", json=body).status_code == 409


def test_a_job_in_the_trash_is_not_resumed(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.end("failed", error={"code": "x", "message": "y"})
    assert delete(center, "/api/jobs/1") == 200
    assert center.act(1, "retry").status_code == 409
    center.post("/api/jobs/1/restore")
    assert center.act(1, "retry").status_code == 200


def test_the_same_bytes_again_restore_a_dataset(center: Center) -> None:
    center.upload(rows(3))
    delete(center, "/api/datasets/1")
    again = center.client.put("/api/datasets/x", headers=center.headers, content=rows(3))
    assert (again.status_code, again.json()["duplicate"], again.json()["trashed_at"]) == (200, True, None)


def test_the_retention_is_read_and_set_key_by_key(center: Center) -> None:
    assert center.get("/api/settings/retention").json()["trash_days"] == 14
    put = center.client.put("/api/settings/retention", headers=center.headers, json={"max_bytes": 5})
    assert put.json() == {"max_age_days": None, "max_bytes": 5, "trash_days": 14, "daily_backups": 7}
    wrong = center.client.put("/api/settings/retention", headers=center.headers, json={"trash_days": -1, "x": 1})
    assert [one["field"] for one in wrong.json()["error"]["detail"]] == ["trash_days", "x"]


@pytest.mark.parametrize(("wanted", "left"), [({"max_bytes": 2}, [3, 1]), ({"max_age_days": 1}, [1])])
def test_checkpoints_of_ended_jobs_go_but_never_the_best(
    center: Center, wanted: dict[str, int], left: list[int]
) -> None:
    finished(center, 1, 2, 3)
    with center.database.write() as session:
        for one in (1, 2, 3):
            session.get_one(Checkpoint, one).created_at -= timedelta(days=2)
        retention.change(session, wanted)
        retention.apply(session)
        assert checkpoints.remove_retired(session, center.app.state.storage) == 3 - len(left)
    assert [one["step"] for one in center.get("/api/jobs/1/checkpoints").json()["items"]] == left
    assert ids(center, "/api/adapters") == [1]


def test_the_retention_leaves_the_one_a_stopped_job_would_go_on_from(center: Center) -> None:
    center.make_job(config={"keep_checkpoints": 10})
    claim = center.worker().must_claim()
    claim.begin()
    for step in (1, 2, 3):
        claim.beat(claim.step(step))
        claim.checkpoint(step, b"%d" % step)
    center.act(1, "cancel")
    claim.end("cancelled")
    with center.database.write() as session:
        retention.change(session, {"max_bytes": 0, "max_age_days": 1})
        assert retention.apply(session) == 2
    assert [one["step"] for one in center.get("/api/jobs/1/checkpoints").json()["items"]] == [3]
    assert center.act(1, "resume").json()["state"] == "queued"


def test_the_retention_does_not_touch_a_job_that_has_not_ended(center: Center) -> None:
    finished(center, 1, 2, 3)
    with center.database.write() as session:
        session.get_one(Job, 1).state = JobState.PAUSED
        retention.change(session, {"max_bytes": 0})
        assert retention.apply(session) == 0
        assert session.get(Adapter, 1) is not None


def test_the_buttons_undo_each_other(center: Center) -> None:
    center.upload(rows(3))
    moved = center.post("/trash/dataset/1/_move")
    assert "Restore from the trash" in moved.text and "#trash-dataset-1 button" in moved.headers["hx-trigger"]
    assert "rows.jsonl" in center.get("/trash").text
    assert "Delete" in center.post("/trash/dataset/1/_restore").text
    assert center.post("/trash/dataset/1/move", follow_redirects=False).headers["location"] == "/datasets/1"
    assert center.post("/trash/empty", follow_redirects=False).headers["location"] == "/trash"
    assert "Nothing lies here" in center.get("/trash").text


def test_a_row_that_was_taken_back_says_so_and_can_go_again(center: Center) -> None:
    center.upload(rows(3))
    center.post("/trash/dataset/1/move")
    assert "/trash/dataset/1/_row/restore" in center.get("/trash").text
    back = center.post("/trash/dataset/1/_row/restore")
    assert "Taken back" in back.text and 'href="/datasets/1"' in back.text
    assert "Restored rows.jsonl." in back.headers["hx-trigger"]
    assert center.post("/trash/dataset/1/_row/restore").status_code == 409
    again = center.post("/trash/dataset/1/_row/move").text
    assert "Taken back" not in again and "/trash/dataset/1/_row/restore" in again


def test_the_trash_asks_before_it_is_emptied_and_names_what_went(center: Center) -> None:
    center.make_job()
    center.act(1, "cancel")
    center.post("/trash/job/1/move")
    center.post("/trash/dataset/1/move")
    assert 'hx-get="/trash/_empty"' in center.get("/trash").text
    for path in ("/trash/_empty", "/trash/empty"):
        assert "2 things of" in center.get(path).text
    answer = center.post("/trash/_empty")
    assert "Deleted 2 things for good: rows.jsonl" in answer.headers["hx-trigger"]
    assert "Nothing lies here" in answer.text
    assert "empty already" in center.get("/trash/_empty").text


def test_a_paused_job_that_others_wait_for_stays(center: Center) -> None:
    first = center.make_job()["id"]
    second = center.make_job(1, depends_on=[first])["id"]
    with center.database.write() as session:
        session.get_one(Job, first).state = JobState.PAUSED
    answer = center.client.delete(f"/api/jobs/{first}", headers=center.headers)
    assert answer.status_code == 409 and f"job {second} waits for it" in answer.json()["error"]["message"]


def test_the_retention_is_set_on_the_page(center: Center) -> None:
    sent = {"max_age_days": "30", "max_gigabytes": "1.5", "trash_days": "7", "daily_backups": "3"}
    answer = center.client.post("/trash/retention", headers=center.headers, data=sent, follow_redirects=False)
    assert answer.status_code == 303
    kept = center.get("/api/settings/retention").json()
    assert kept == {"max_age_days": 30.0, "max_bytes": 1_500_000_000, "trash_days": 7.0, "daily_backups": 3}
    page = center.get("/trash").text
    assert 'name="max_gigabytes" value="1.5"' in page and 'name="max_age_days" value="30"' in page
    wrong = center.client.post("/trash/retention", headers=center.headers, data=sent | {"trash_days": "soon"})
    assert wrong.status_code == 422 and "must be a number" in wrong.text and 'value="soon"' in wrong.text
    assert center.get("/api/settings/retention").json() == kept
