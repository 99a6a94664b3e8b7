"""Two datasets in one job, from the upload to the adapter, by way of REST and a real worker."""

from tests.conftest import Server
from tests.factories import rows
from tests.system.test_live import CONFIG, wait_for


def test_a_mixture_trains_and_its_adapter_says_of_what(server: Server) -> None:
    with server.client() as client:
        ids = [client.put(f"/api/datasets/{n}.jsonl", content=rows(n, f"mix{n}")).json()["id"] for n in (20, 40)]
        mixed = [{"id": ids[0], "weight": 2}, {"id": ids[1], "weight": 0.5}]
        config = CONFIG | {"epochs": 1, "validation_count": 6}
        job = client.post("/api/jobs", json={"datasets": mixed, "model": "tiny-qwen3-vl", "config": config}).json()
        done = wait_for(client, job["id"], "succeeded", "failed")
        assert done["state"] == "succeeded", done["error"]
        assert (done["dataset_ids"], done["num_steps"]) == (ids, (2 * 18 + 18) // 2)
        manifest = client.get(f"/api/adapters/{done['adapter_id']}").json()["manifest"]
        assert [(one["id"], one["weight"]) for one in manifest["mixture"]] == [(ids[0], 2.0), (ids[1], 0.5)]
