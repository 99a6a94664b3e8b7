"""A job that goes on from an adapter: what it must share with it, and what its worker is given."""

from typing import Any

import pytest

from tests.factories import Center, Claim, described, rows

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def adapter_id(center: Center) -> int:
    """An adapter of rank 8 on the tiny model."""
    center.make_job(config={"lora_r": 8, "lora_alpha": 16, "epochs": 3})
    claim = center.worker().must_claim()
    claim.begin()
    return int(claim.succeed().json()["adapter_id"])


def asked(center: Center, adapter_id: int, model: str = "tiny-qwen3-vl", **config: Any) -> Any:
    dataset_id = center.upload(rows(12, "next"))["id"]
    body = {"dataset_id": dataset_id, "model": model, "config": config, "from_adapter": adapter_id}
    return center.post("/api/jobs", json=body)


@pytest.fixture
def claim(center: Center, adapter_id: int) -> Claim:
    assert asked(center, adapter_id).status_code == 201
    return center.worker().must_claim()


def test_a_job_takes_the_shape_of_the_adapter_and_steps_of_its_own(center: Center, adapter_id: int) -> None:
    job = asked(center, adapter_id).json()
    assert (job["from_adapter"], job["attempt"], job["step"], job["estimate"]["num_steps"]) == (adapter_id, 0, 0, 2)
    config = job["config"]
    assert (config["lora_r"], config["lora_alpha"], config["epochs"]) == (8, 16, 1)


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"lora_r": 64}, "config.lora_r", "is 64, but adapter 1 has 8"),
        ({"lora_alpha": 32}, "config.lora_alpha", "is 32, but adapter 1 has 16"),
        ({"use_rslora": True}, "config.use_rslora", "is True, but adapter 1 has False"),
    ],
)
def test_another_shape_is_refused_by_the_difference(
    center: Center, adapter_id: int, config: dict[str, Any], field: str, words: str
) -> None:
    answer = asked(center, adapter_id, **config)
    assert answer.status_code == 422
    assert answer.json()["error"]["detail"] == [{"field": field, "message": words}]


def test_all_differences_are_named_at_once(center: Center, adapter_id: int) -> None:
    answer = asked(center, adapter_id, model="Qwen/Qwen3-VL-8B-Instruct", lora_r=64, lora_alpha=1)
    fields = {one["field"] for one in answer.json()["error"]["detail"]}
    assert (answer.status_code, fields) == (422, {"config.lora_r", "config.lora_alpha", "model"})


@pytest.mark.parametrize("adapter_id", [99, "x"])
def test_an_adapter_that_is_not_there_is_refused(center: Center, adapter_id: Any) -> None:
    answer = asked(center, adapter_id)
    assert answer.status_code == 422 and answer.json()["error"]["detail"][0]["field"] == "from_adapter"


def test_an_estimate_knows_the_adapter_as_well(center: Center, adapter_id: int) -> None:
    dataset_id = center.upload(rows(12))["id"]
    body = {"dataset_id": dataset_id, "model": "tiny-qwen3-vl", "from_adapter": adapter_id}
    assert center.post("/api/estimate", json=body).json()["disk"] < 10 * 2**20
    assert center.post("/api/estimate", json=body | {"config": {"lora_r": 9}}).status_code == 422


def test_a_claim_names_the_adapter_and_its_files(claim: Claim, adapter_id: int) -> None:
    told = claim.body["from_adapter"]
    assert (told["id"], told["sha256"]) == (adapter_id, described(WEIGHTS.encode())["sha256"])
    assert {one["path"] for one in told["files"]} == {WEIGHTS, "adapter_config.json", "manifest.json", "README.md"}
    assert claim.body["resume"] is None


def test_its_files_are_served_to_the_holder_alone(center: Center, claim: Claim) -> None:
    place = f"/api/worker/jobs/{claim.job_id}/from-adapter"
    assert center.client.get(f"{place}/{WEIGHTS}", headers=claim.headers).content == WEIGHTS.encode()
    assert center.client.get(f"{place}/{WEIGHTS}", headers=claim.headers | {"X-Attempt": "9"}).status_code == 409
    for name in ("nothing", "../outcome.json", "..%2F..%2Fx"):
        assert center.client.get(f"{place}/{name}", headers=claim.headers).status_code == 404


def test_a_job_without_one_has_no_such_files(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    assert claim.body["from_adapter"] is None
    place = f"/api/worker/jobs/{claim.job_id}/from-adapter/{WEIGHTS}"
    assert center.client.get(place, headers=claim.headers).status_code == 404


def test_a_clone_goes_on_from_the_same_adapter(center: Center, claim: Claim, adapter_id: int) -> None:
    clone = center.act(claim.job_id, "clone", {"config": {"epochs": 2}})
    assert clone.json()["from_adapter"] == adapter_id
    assert center.act(claim.job_id, "clone", {"config": {"lora_r": 4}}).status_code == 422
