from sqlmodel import select

from app.models import Lane
from tests.factories import Center


def test_telemetry_shows_on_the_node_and_in_the_jobs_metrics(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    assert worker.beat({"ram_used": 5, "gpu_util": None}).status_code == 200
    lane = center.get("/api/nodes").json()["items"][0]["lanes"][0]
    assert (lane["telemetry"]["ram_used"], lane["job_id"], lane["online"]) == (5, claim.job_id, True)
    assert center.get(f"/api/jobs/{claim.job_id}/metrics").json()["telemetry"]["ram_used"] == [5]


def test_a_beat_of_an_unknown_lane_asks_to_register(center: Center) -> None:
    worker = center.worker()
    with center.database.write() as session:
        session.delete(session.exec(select(Lane)).one())
    assert worker.beat().status_code == 404


def test_a_node_that_registers_again_is_the_same_node(center: Center) -> None:
    first, second = center.worker("cpu"), center.worker("cpu")
    assert first.node_id == second.node_id
    assert [lane["name"] for lane in center.get("/api/nodes").json()["items"][0]["lanes"]] == ["cpu"]


def test_a_draining_lane_gets_no_job(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    body = {"lane": "cpu", "draining": True}
    worker.client.post(f"/api/worker/nodes/{worker.node_id}/beat", headers=worker.auth, json=body)
    assert worker.claim() is None
