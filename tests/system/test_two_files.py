"""Two files in a row: the second job goes on from the adapter of the first, and every example is trained."""

import time
from typing import Any

import httpx

from tests.conftest import Server
from tests.factories import rows


def trained(client: httpx.Client, name: str, count: int, **more: Any) -> dict[str, Any]:
    """The job on a file of so many rows, once it has ended."""
    dataset = client.put(f"/api/datasets/{name}.jsonl", content=rows(count, name)).json()
    config = {"gradient_accumulation": 4, "sample_prompts": 0, "validation_share": 0}
    body = {"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "config": config, **more}
    job: dict[str, Any] = client.post("/api/jobs", json=body).raise_for_status().json()
    until = time.monotonic() + 100
    while job["state"] not in ("succeeded", "failed", "cancelled") and time.monotonic() < until:
        time.sleep(0.3)
        job = client.get(f"/api/jobs/{job['id']}").json()
    assert job["state"] == "succeeded", job["error"]
    return job


def test_two_files_in_sequence_train_the_sum_of_their_examples(server: Server) -> None:
    with server.client() as client:
        first = trained(client, "first half", 12)
        second = trained(client, "second half", 8, from_adapter=first["adapter_id"])
        assert [(one["step"], one["num_steps"]) for one in (first, second)] == [(3, 3), (2, 2)]
        assert first["resolved"]["num_train"] + second["resolved"]["num_train"] == 12 + 8
        before, after = (client.get(f"/api/adapters/{one['adapter_id']}").json() for one in (first, second))
    weights = {one["path"]: one["sha256"] for one in before["files"]}["adapter_model.safetensors"]
    assert after["manifest"]["from_adapter"] == {"id": before["id"], "name": before["name"], "sha256": weights}
    assert after["manifest"]["steps_done"] == 2
