"""What goes for good: its files, its rows, and what must stay although it goes."""

from datetime import timedelta

from sqlmodel import select

from app.backup import artefacts
from app.columns import utc_now
from app.models import Adapter, Checkpoint, Dataset, Job, JobState, Metric, Rollup
from app.services import purge
from tests.app.thrown import delete, expire, finished, ids
from tests.factories import Center, rows


def test_what_expires_frees_its_files(center: Center) -> None:
    finished(center, 1)
    storage = center.app.state.storage
    for path in ("/api/datasets/1", "/api/jobs/1", "/api/adapters/1"):
        assert delete(center, path) == 200
    assert center.post("/api/trash/empty").json() == {"deleted": 3}
    assert [one for one in storage.root.joinpath("datasets").rglob("*") if one.is_file()] == []
    assert list(storage.jobs.iterdir()) == []
    assert [center.get(f"/api/{kind}/1").status_code for kind in ("datasets", "jobs", "adapters")] == [404] * 3


def test_an_adapter_outlives_its_job(center: Center) -> None:
    finished(center, 1)
    delete(center, "/api/jobs/1")
    assert expire(center) == 1
    assert center.get("/api/adapters/1/download").status_code == 200
    assert (
        ids(center, "/api/jobs/1/checkpoints")
        == ids(center, "/api/jobs")
        == ids(center, "/api/jobs?trashed=true")
        == []
    )
    assert not (center.app.state.storage.attempt(1, 1) / "checkpoints").exists()
    assert center.post("/api/jobs/1/restore").status_code == 409
    told, shown = center.get("/api/jobs/1").json(), center.get("/jobs/1").text
    assert (told["trashed_at"], told["gone"]) == (None, True)
    assert "Deleted for good" in shown and 'id="trash-job-1"' not in shown
    delete(center, "/api/adapters/1")
    assert expire(center) == 1 and center.get("/api/jobs/1").status_code == 404


def test_a_deleted_dataset_of_a_job_can_be_sent_again(center: Center) -> None:
    center.make_job(center.upload(rows(3))["id"])
    center.act(1, "cancel")
    delete(center, "/api/datasets/1")
    assert expire(center) == 1
    assert center.post("/api/datasets/1/restore").status_code == 409
    assert center.get("/api/datasets/1").json()["trashed_at"] is None
    assert (
        "Deleted for good" in center.get("/datasets/1").text
        and "Deleted for good" in center.get("/datasets/1/_head").text
    )
    again = center.client.put("/api/datasets/x", headers=center.headers, content=rows(3))
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, 1, "ready")


def test_nothing_goes_before_its_time(center: Center) -> None:
    center.upload(rows(3))
    delete(center, "/api/datasets/1")
    with center.database.write() as session:
        assert purge.expired(session, center.app.state.storage, timedelta(days=14)) == 0
        session.get_one(Dataset, 1).trashed_at = utc_now() - timedelta(days=15)
        session.flush()
        assert purge.expired(session, center.app.state.storage, timedelta(days=14)) == 1


def test_a_number_is_never_given_twice(center: Center) -> None:
    job_id = center.make_job()["id"]
    center.act(job_id, "cancel")
    assert center.client.delete(f"/api/jobs/{job_id}", headers=center.headers).status_code == 200
    assert center.post("/api/trash/empty").status_code == 200
    assert center.get(f"/api/jobs/{job_id}").status_code == 404
    assert center.make_job(1)["id"] == job_id + 1


def test_a_job_whose_adapter_was_deleted_for_good_is_not_tried_again(center: Center) -> None:
    center.make_job()
    center.worker().must_claim().succeed()
    child = center.make_job(1, from_adapter=1)["id"]
    center.act(child, "cancel")
    center.client.delete("/api/adapters/1", headers=center.headers)
    center.post("/api/trash/empty")
    with center.database.write() as session:
        session.get_one(Job, child).state = JobState.FAILED
    answer = center.act(child, "retry")
    assert answer.status_code == 409 and "deleted for good" in answer.json()["error"]["message"]


def test_a_version_that_was_deleted_and_is_sent_again_is_a_dataset_like_any_other(center: Center) -> None:
    parent = center.upload(rows(30) + rows(1) + rows(3, "b"))["id"]
    made = center.post(f"/api/datasets/{parent}/versions", json={"exclude": ["exact_duplicate"]}).json()
    made = center.wait_for_dataset(made["id"])
    storage = center.app.state.storage
    content = storage.dataset(made["sha256"]).read_bytes()
    job = center.make_job(made["id"])["id"]
    center.act(job, "cancel")
    assert delete(center, f"/api/datasets/{made['id']}") == 200
    expire(center)
    again = center.wait_for_dataset(center.upload(content)["id"])
    assert (again["id"], again["state"], again["made"]) == (made["id"], "ready", None)
    assert all((storage.root / one["path"]).exists() for one in artefacts(storage.database, storage))


def test_of_a_job_that_is_gone_only_its_adapter_stays(center: Center) -> None:
    claim = finished(center, *range(1, 40))
    assert delete(center, f"/api/jobs/{claim.job_id}") == 200
    expire(center)
    with center.database.read() as session:
        for table in (Metric, Rollup, Checkpoint):
            assert session.exec(select(table).where(table.job_id == claim.job_id)).first() is None
        assert session.exec(select(Adapter)).first() is not None
