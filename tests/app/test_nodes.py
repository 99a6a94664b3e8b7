import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from app.columns import utc_now
from app.models import Event, Lane
from app.services import clocks, nodes
from app.versions import OWN
from tests.factories import Center, Worker


def call(worker: Worker, path: str, **body: Any) -> Any:
    url = f"/api/worker/nodes/{worker.node_id}/{path}"
    return worker.client.post(url, headers=worker.auth, json={"lane": worker.lane, **body})


def register(center: Center, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {center.app.state.tokens.worker}"}
    body = {"name": "workshop", "lanes": [{"name": "cpu"}], **more}
    return center.client.post("/api/worker/nodes", headers=headers, json=body)


def node(center: Center) -> dict[str, Any]:
    (one,) = center.get("/api/nodes").json()["items"]
    shown: dict[str, Any] = one
    return shown


def age(center: Center, **changes: Any) -> None:
    with center.database.write() as session:
        for lane in session.exec(select(Lane)):
            for name, value in changes.items():
                setattr(lane, name, value)
            session.add(lane)


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


def test_a_worker_of_another_version_is_refused_and_both_are_named(center: Center) -> None:
    answer = register(center, versions={"training-control-center": "9.9"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "other_version")
    assert (
        "workshop is version 9.9" in answer.json()["error"]["message"] and str(OWN) in answer.json()["error"]["message"]
    )
    assert register(center, versions={"training-control-center": OWN, "torch": "1.0"}).status_code == 200
    assert node(center)["versions"]["torch"] == "1.0"


def test_a_worker_registered_before_an_update_is_refused_too(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = center.worker()
    assert register(center, versions={"training-control-center": OWN}).status_code == 200
    monkeypatch.setattr(nodes, "OWN", "99")
    assert worker.beat().json()["error"]["code"] == "other_version"
    body = {"node_id": worker.node_id, "lane": "cpu"}
    assert center.client.post("/api/worker/claim", headers=worker.auth, json=body).status_code == 409


def test_two_machines_of_one_name_do_not_take_each_other_s_jobs(center: Center) -> None:
    assert register(center, instance="a").status_code == 200
    assert register(center, instance="a").status_code == 200
    answer = register(center, instance="b")
    assert answer.json()["error"]["code"] == "name_taken" and "--node-name" in answer.json()["error"]["message"]
    age(center, last_seen_at=utc_now() - timedelta(minutes=1))
    assert register(center, instance="b").status_code == 200


def test_gpus_and_labels_of_a_group_are_shown(center: Center) -> None:
    gpus = [{"name": "H200", "memory": 5}, {"name": "H200", "memory": 6}]
    register(center, lanes=[{"name": "gpu0+1", "kind": "gpu", "gpus": gpus, "labels": ["big"]}])
    (lane,) = node(center)["lanes"]
    assert (lane["name"], lane["gpus"], lane["labels"]) == ("gpu0+1", gpus, ["big"])


@pytest.mark.parametrize(("off", "warned"), [(600.0, "ahead of"), (-600.0, "behind"), (3.0, None)])
def test_a_clock_that_is_off_is_measured_and_told(center: Center, off: float, warned: str | None) -> None:
    register(center, time=time.time() + off)
    assert node(center)["clock_skew_s"] == pytest.approx(off, abs=2)
    told = [text.split(" s ")[1].split(" the")[0] for text in node(center)["warnings"]]
    assert told == ([warned] if warned else [])


@pytest.mark.parametrize(("off", "stored"), [(600, "02:54"), (1, "03:04")])
def test_events_of_a_node_stand_by_our_clock_once_its_own_is_off(center: Center, off: int, stored: str) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    call(worker, "beat", time=time.time() + off)
    claim.beat(claim.step(1))
    with center.database.read() as session:
        at = session.exec(select(Event.at).where(Event.kind == "step")).one()
    assert abs(at - datetime.fromisoformat(f"2026-01-02T{stored}:05.678Z")) < timedelta(seconds=2)


def test_a_message_held_up_on_its_way_hardly_moves_the_clock() -> None:
    assert clocks.believe(0.0, -16.0) == -2.0
    assert clocks.believe(-2.0, 0.0) == 0.0
    assert (clocks.believe(None, 7.0), clocks.believe(3.0, None)) == (7.0, 3.0)


def test_a_time_out_of_this_world_is_refused(center: Center) -> None:
    assert register(center, time=1e300).status_code == 422


def test_a_drained_node_finishes_its_job_and_takes_no_more(center: Center) -> None:
    first, second = center.make_job(), center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    assert center.post(f"/api/nodes/{worker.node_id}/drain").json()["state"] == "draining"
    assert call(worker, "beat").json()["drain"] is True
    claim.begin()
    assert (claim.succeed().status_code, center.job(first["id"])["state"]) == (200, "succeeded")
    assert worker.claim() is None
    assert register(center).status_code == 200 and worker.claim() is None
    center.post(f"/api/nodes/{worker.node_id}/undrain")
    assert worker.must_claim().job_id == second["id"]


def test_an_undrained_lane_is_woken_again(center: Center) -> None:
    worker = center.worker()
    center.post(f"/api/nodes/{worker.node_id}/drain")
    assert worker.claim() is None
    with center.database.read() as session:
        assert nodes.idle_lanes(session) == []
    center.post(f"/api/nodes/{worker.node_id}/undrain")
    with center.database.read() as session:
        assert [queue for _, queue in nodes.idle_lanes(session)] == ["lane.workshop.cpu"]


def test_a_node_that_left_is_told_from_one_that_fell_silent(center: Center) -> None:
    first, second = center.worker("gpu0"), center.worker("gpu1")
    call(first, "leave")
    assert (node(center)["state"], [lane["name"] for lane in node(center)["lanes"]]) == ("online", ["gpu1"])
    call(second, "leave")
    assert node(center)["state"] == "left" and node(center)["left_at"]
    assert [lane["state"] for lane in node(center)["lanes"]] == ["left", "left"]
    register(center)
    age(center, last_seen_at=utc_now() - timedelta(minutes=1))
    assert (node(center)["state"], node(center)["left_at"]) == ("silent", None)


def test_a_node_is_forgotten_once_it_is_gone_and_holds_nothing(center: Center) -> None:
    job = center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    url = f"/api/nodes/{worker.node_id}"
    remove = lambda: center.client.delete(url, headers=center.headers)  # noqa: E731
    assert "is online" in remove().json()["error"]["message"]
    call(worker, "leave")
    assert f"holds job {job['id']}" in remove().json()["error"]["message"]
    claim.end("failed", error={"code": "a", "message": "b"})
    assert (remove().status_code, center.get(url).status_code, worker.beat().status_code) == (204, 404, 404)
    assert center.job(job["id"])["lane"] is None


def test_nodes_come_in_pages(center: Center) -> None:
    for name in "cab":
        center.worker(node=name)
    first = center.get("/api/nodes?limit=2").json()
    second = center.get(f"/api/nodes?limit=2&after={first['next']}").json()
    assert [one["name"] for one in [*first["items"], *second["items"]]] == ["c", "a", "b"]
    assert second["next"] is None and center.get("/api/nodes?limit=0").status_code == 422


def test_past_telemetry_comes_in_columns_and_keeps_its_peaks(center: Center) -> None:
    worker = center.worker()
    for i in range(60):
        worker.beat({"cpu_util": 99 if i == 33 else 5, "ram_used": i, "power": None})
    url = f"/api/nodes/{worker.node_id}/telemetry"
    (lane,) = center.get(f"{url}?max_points=10").json()["lanes"]
    assert (lane["lane"], len(lane["at"]), max(lane["cpu_util"])) == ("cpu", len(lane["cpu_util"]), 99)
    assert len(lane["at"]) <= 10 and lane["at"] == sorted(lane["at"])
    with center.database.write() as session:
        for event in session.exec(select(Event).where(Event.kind == "telemetry")):
            event.at = event.at - timedelta(minutes=30)
    assert center.get(f"{url}?minutes=5").json()["lanes"][0]["at"] == []
    assert len(center.get(f"{url}?minutes=60").json()["lanes"][0]["at"]) == 60


def test_a_gpu_without_a_number_of_bytes_is_refused(center: Center) -> None:
    headers = {"Authorization": f"Bearer {center.app.state.tokens.worker}"}
    lane = {"name": "gpu0", "gpus": [{"name": "A", "memory": "lots"}]}
    answer = center.client.post("/api/worker/nodes", headers=headers, json={"name": "attic", "lanes": [lane]})
    assert answer.status_code == 422 and answer.json()["error"]["detail"][0]["field"] == "lanes.0.gpus.0.memory"


def test_readings_that_are_no_numbers_are_left_out(center: Center) -> None:
    center.worker().beat({"ram_total": "x", "ram_used": 5, "gpu_util": None})
    assert center.get("/api/nodes").json()["items"][0]["lanes"][0]["telemetry"] == {"ram_used": 5, "gpu_util": None}


def test_a_job_says_that_its_lanes_take_nothing_now(center: Center) -> None:
    center.worker()
    center.post("/api/nodes/1/drain")
    assert "takes no new jobs now" in center.make_job()["waiting_for"]["message"]


def test_a_node_that_comes_back_after_it_was_forgotten_is_not_taken_for_another(center: Center) -> None:
    attic = center.worker(lane="gpu0", node="attic")
    with center.database.write() as session:
        lane = session.exec(select(Lane)).one()
        lane.last_seen_at -= timedelta(seconds=60)
        session.add(lane)
    assert center.client.delete(f"/api/nodes/{attic.node_id}", headers=center.headers).status_code == 204
    cellar = center.worker(lane="gpu0", node="cellar")
    center.make_job()
    claim = cellar.must_claim()
    claim.begin()
    asked = {"node_id": attic.node_id, "lane": "gpu0"}
    assert center.client.post("/api/worker/claim", headers=attic.auth, json=asked).status_code == 404
    assert claim.beat(claim.step(1)).status_code == 200


def test_a_claim_that_was_not_heard_of_is_given_again_although_the_node_is_drained(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    asked = {"node_id": worker.node_id, "lane": worker.lane, "key": "k1"}
    first = center.client.post("/api/worker/claim", headers=worker.auth, json=asked)
    center.post(f"/api/nodes/{worker.node_id}/drain")
    again = center.client.post("/api/worker/claim", headers=worker.auth, json=asked)
    assert again.status_code == 200 and again.json()["claim_token"] == first.json()["claim_token"]
    # Another key: the worker was started again and knows nothing of that job.
    assert center.client.post("/api/worker/claim", headers=worker.auth, json=asked | {"key": "k2"}).status_code == 204
    assert center.job(first.json()["job_id"])["state"] == "queued"
