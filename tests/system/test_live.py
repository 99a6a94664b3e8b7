"""A running job as people see it: events once and in order, a stop that is quick and keeps its checkpoint."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.factories import rows

CONFIG = {"gradient_accumulation": 2, "sample_prompts": 0, "lora_r": 4, "validation_share": 0, "save_steps": 10}


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def make_job(client: httpx.Client, seed: str, **config: Any) -> int:
    dataset = client.put(f"/api/datasets/{seed}.jsonl", content=rows(40, seed)).json()
    body = {"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "config": CONFIG | config}
    answer = client.post("/api/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def wait_for(client: httpx.Client, job_id: int, *states: str, step: int = 0) -> dict[str, Any]:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
        if job["state"] in states and job["step"] >= step:
            return job
        time.sleep(0.1)
    raise AssertionError(f"job {job_id} is {job['state']} at step {job['step']}, not {states}: {job['error']}")


def read_some(client: httpx.Client, job_id: int, after: int, count: int) -> tuple[list[dict[str, Any]], bool]:
    """Events of one connection that is cut after so many; whether the stream said it is done."""
    seen: list[dict[str, Any]] = []
    kind = ""
    with client.stream("GET", f"/api/jobs/{job_id}/events", headers={"Last-Event-ID": str(after)}) as answer:
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "done":
                return seen, True
            elif name == "data" and value.startswith("["):
                seen += [one | {"kind": kind} for one in json.loads(value)]
                if len(seen) >= count:
                    return seen, False
    return seen, False


def test_a_client_cut_ten_times_has_seen_every_event_once_in_order(client: httpx.Client) -> None:
    job_id = make_job(client, "cut", max_steps=60)
    seen: list[dict[str, Any]] = []
    done, cuts = False, 0
    while not done:
        # Short looks first, then long ones; the last cuts fall into the end.
        some, done = read_some(client, job_id, seen[-1]["id"] if seen else 0, count=4 if cuts < 10 else 10_000)
        seen += some
        cuts += 1
    ids = [one["id"] for one in seen]
    assert cuts > 10 and ids == sorted(set(ids))
    assert [one["step"] for one in seen if one["kind"] == "step"] == list(range(1, 61))
    whole, _ = read_some(client, job_id, 0, count=10_000)
    assert ids == [one["id"] for one in whole if one["kind"] != "telemetry" or one["id"] in ids]
    assert len({(one["attempt"], one["seq"]) for one in whole if "seq" in one}) == sum("seq" in one for one in whole)


def test_a_stop_is_quick_and_keeps_a_checkpoint_to_go_on_from(client: httpx.Client) -> None:
    job_id = make_job(client, "stop", max_steps=100_000)
    wait_for(client, job_id, "running", step=3)
    asked = time.monotonic()
    assert client.post(f"/api/jobs/{job_id}/cancel").json()["asked"] == "cancel"
    stopped = wait_for(client, job_id, "cancelled")
    # A row of this job takes a few hundredths of a second; 3 s is the contract's, the rest is for slow machines.
    assert time.monotonic() - asked < 3 + 12
    (newest, *_) = client.get(f"/api/jobs/{job_id}/checkpoints").json()["items"]
    assert newest["step"] == stopped["step"] >= 3
    assert client.post(f"/api/jobs/{job_id}/resume").json()["state"] == "queued"
    wait_for(client, job_id, "running", step=newest["step"] + 1)
    metrics = client.get(f"/api/jobs/{job_id}/metrics", params={"max_points": 10**6}).json()
    assert metrics["step"] == list(range(1, len(metrics["step"]) + 1))
    client.post(f"/api/jobs/{job_id}/cancel", json={"save": False})
    wait_for(client, job_id, "cancelled")


def test_a_job_that_waits_behind_another_runs_next(client: httpx.Client) -> None:
    first = make_job(client, "first", max_steps=100_000)
    second = make_job(client, "second", max_steps=2)
    wait_for(client, first, "running", step=1)
    assert client.get(f"/api/jobs/{second}").json()["position"] == 1
    client.post(f"/api/jobs/{first}/cancel", json={"save": False})
    assert wait_for(client, second, "succeeded")["attempt"] == 1


def has_items(client: httpx.Client, url: str) -> bool:
    return bool(client.get(url).json()["items"])


def wait_until(found: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + 60
    while not found():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.05)


def test_each_request_to_a_running_job_takes_effect_and_the_last_ends_it(client: httpx.Client) -> None:
    job_id = make_job(client, "requests", max_steps=100_000, sample_prompts=2, sample_steps=100_000, save_steps=100_000)
    wait_for(client, job_id, "running", step=2)
    for action, shown in (("save", "checkpoints"), ("sample", "samples")):
        assert client.post(f"/api/jobs/{job_id}/{action}").status_code == 200
        url = f"/api/jobs/{job_id}/{shown}"
        wait_until(partial(has_items, client, url), shown)
    client.post(f"/api/jobs/{job_id}/pause")
    paused = wait_for(client, job_id, "paused")
    client.post(f"/api/jobs/{job_id}/resume")
    wait_for(client, job_id, "running", step=paused["step"] + 1)
    client.post(f"/api/jobs/{job_id}/cancel", json={"save": False})
    wait_for(client, job_id, "cancelled")
    first, second = client.get(f"/api/jobs/{job_id}/attempts").json()["items"]
    assert (first["outcome"], second["outcome"], second["resume_step"]) == ("paused", "cancelled", paused["step"])


def test_a_trainer_killed_from_outside_leaves_a_black_box_and_its_job_goes_on(
    client: httpx.Client, server: Server
) -> None:
    job_id = make_job(client, "killed", max_steps=300, save_steps=5)
    wait_for(client, job_id, "running", step=10)
    note = server.data_dir / "worker" / "jobs" / str(job_id) / "attempt-1" / "trainer.pid.json"
    os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: client.get(f"/api/jobs/{job_id}").json()["attempt"] == 2, "a second attempt")
    box = client.get(f"/api/jobs/{job_id}/attempts/1/black-box").json()
    assert (box["outcome"], box["error"]["code"], box["exit"]["signal"]) == ("fault", "trainer_sigkill", 9)
    assert box["events"] and box["telemetry"] and any("Training started" in line for line in box["log"])
    client.post(f"/api/jobs/{job_id}/cancel")
    wait_for(client, job_id, "cancelled")
