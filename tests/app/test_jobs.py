import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.models import TRANSITIONS, JobState
from app.schemas import NOT_YET, TrainingConfig
from tests.factories import Center, rows


def fields(answer_json: dict[str, object]) -> set[str]:
    return {one["field"] for one in answer_json["error"]["detail"]}  # type: ignore[index]


def test_a_job_is_queued_with_the_defaults_of_the_contract(center: Center) -> None:
    job = center.make_job()
    assert (job["state"], job["position"], job["priority"], job["attempt"], job["step"]) == (
        "queued",
        1,
        "normal",
        0,
        0,
    )
    assert job["config"] == TrainingConfig().model_dump()
    assert center.job(job["id"]) == job


def test_every_wrong_field_is_named_at_once(center: Center) -> None:
    body = {
        "dataset_id": "x",
        "model": "no such",
        "config": {"lora_r": 0, "learning_rate": "fast", "nonsense": 1},
        "priority": "soon",
        "colour": "red",
    }
    answer = center.post("/api/jobs", json=body)
    assert answer.status_code == 422
    wanted = {"dataset_id", "model", "config.lora_r", "config.learning_rate", "config.nonsense", "priority", "colour"}
    assert fields(answer.json()) == wanted


@pytest.mark.parametrize(
    ("key", "value"), [("use_dora", True), ("neftune_alpha", 5), ("targets", "language+vision"), ("guardian", "act")]
)
def test_an_option_that_would_be_ignored_is_refused_by_name(center: Center, key: str, value: object) -> None:
    assert key in NOT_YET
    dataset_id = center.upload(rows(3))["id"]
    answer = center.post("/api/jobs", json={"dataset_id": dataset_id, "model": "tiny-qwen3-vl", "config": {key: value}})
    assert answer.status_code == 422 and fields(answer.json()) == {f"config.{key}"}


@pytest.mark.parametrize("body", [None, [], 3, "text", {}])
def test_a_body_of_another_shape_is_refused(center: Center, body: object) -> None:
    assert center.post("/api/jobs", json=body).status_code == 422


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"retries": True}, "retries: must be a whole number"),
        ({"retries": "5"}, "retries: must be a whole number"),
        ({"depends_on": [True]}, "depends_on.0: must be a whole number"),
        ({"max_duration_s": "60"}, "max_duration_s: must be a number"),
        ({"config": {"epochs": True}}, "config.epochs: must be a number"),
        ({"config": {"max_steps": "7"}}, "config.max_steps: must be a whole number"),
        ({"config": {"use_qlora": 1}}, "config.use_qlora: must be true or false"),
        ({"needs": 3}, "needs: must be an object"),
        ({"datasets": []}, "datasets: must have 1 or more entries"),
    ],
)
def test_what_is_no_number_is_not_taken_for_one(center: Center, body: dict[str, object], said: str) -> None:
    whole = {"dataset_id": center.upload(rows(3))["id"], "model": "tiny-qwen3-vl"} | body
    answer = center.post("/api/jobs", json=whole)
    assert answer.status_code == 422 and said in answer.json()["error"]["message"]


def test_a_body_that_is_no_json_is_refused(center: Center) -> None:
    answer = center.client.post(
        "/api/jobs", headers=center.headers | {"Content-Type": "application/json"}, content=b"{x"
    )
    assert answer.status_code == 422


def test_a_model_must_be_here_whole_or_a_hub_id(center: Center, settings: object) -> None:
    dataset_id = center.upload(rows(3))["id"]
    root = center.app.state.base_models.roots[0]
    (root / "half").mkdir(parents=True)
    (root / "half" / "config.json").write_text('{"model_type": "qwen3_vl"}')
    for model, hint in [("half", "no tokenizer.json"), ("../../etc", "not a Hub id"), ("/etc", "not a Hub id")]:
        answer = center.post("/api/jobs", json={"dataset_id": dataset_id, "model": model})
        assert answer.status_code == 422 and hint in answer.json()["error"]["message"]
    assert (
        center.post("/api/jobs", json={"dataset_id": dataset_id, "model": "Qwen/Qwen3-VL-8B-Instruct"}).status_code
        == 201
    )


def test_an_unknown_or_refused_dataset_makes_no_job(center: Center) -> None:
    refused = center.upload(b"nothing\n")
    assert center.post("/api/jobs", json={"dataset_id": 99, "model": "tiny-qwen3-vl"}).status_code == 422
    answer = center.post("/api/jobs", json={"dataset_id": refused["id"], "model": "tiny-qwen3-vl"})
    assert answer.status_code == 409 and "refused" in answer.json()["error"]["message"]
    assert center.get("/api/jobs").json()["items"] == []


def test_positions_follow_priority_then_age(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    ids = [center.make_job(dataset_id, priority=one)["id"] for one in ("low", "normal", "urgent", "normal")]
    assert [center.job(one)["position"] for one in ids] == [4, 2, 1, 3]
    center.act(ids[0], "priority", {"priority": "high"})
    assert [center.job(one)["position"] for one in ids] == [2, 3, 1, 4]


def test_a_queued_job_is_cancelled_at_once_and_cannot_be_paused(center: Center) -> None:
    job = center.make_job()
    assert center.act(job["id"], "pause").status_code == 409
    assert center.act(job["id"], "cancel").json()["state"] == "cancelled"
    again = center.act(job["id"], "cancel")
    assert again.status_code == 409 and "stopped" in again.json()["error"]["message"]


def test_resume_without_a_checkpoint_names_retry(center: Center) -> None:
    job = center.make_job()
    center.act(job["id"], "cancel")
    answer = center.act(job["id"], "resume")
    assert answer.status_code == 409 and "retry" in answer.json()["error"]["message"]
    assert center.act(job["id"], "retry").status_code == 409


def test_a_clone_takes_the_configuration_with_changes(center: Center) -> None:
    job = center.make_job(config={"lora_r": 8})
    clone = center.act(job["id"], "clone", {"config": {"epochs": 3}})
    assert clone.status_code == 201 and clone.json()["id"] != job["id"]
    assert (clone.json()["config"]["lora_r"], clone.json()["config"]["epochs"]) == (8, 3)
    assert center.act(job["id"], "clone", {"config": {"epochs": -1}}).status_code == 422


def test_history_says_who_did_what(center: Center) -> None:
    job = center.make_job()
    center.act(job["id"], "cancel")
    items = center.get(f"/api/jobs/{job['id']}/history").json()["items"]
    assert [(one["who"], one["action"]) for one in items] == [("api", "create"), ("api", "cancel")]


@pytest.mark.parametrize(
    ("address", "agent", "who", "words"),
    [
        ("127.0.0.1", "curl/8", "api", "By REST"),
        ("::1", "trainctl/0.1", "trainctl", "By trainctl"),
        ("10.0.0.7", "trainctl/0.1", "trainctl from 10.0.0.7", "By trainctl from 10.0.0.7"),
        ("10.0.0.7", "curl/8", "api from 10.0.0.7", "By REST from 10.0.0.7"),
    ],
)
def test_history_tells_machines_apart_that_share_the_token(
    center: Center, address: str, agent: str, who: str, words: str
) -> None:
    job = center.make_job()["id"]
    afar = TestClient(center.app, base_url="http://127.0.0.1:7860", client=(address, 50_000))
    headers = center.headers | {"User-Agent": agent}
    assert afar.post(f"/api/jobs/{job}/priority", headers=headers, json={"priority": "low"}).status_code == 200
    assert center.get(f"/api/jobs/{job}/history").json()["items"][-1]["who"] == who
    assert f"{words}:</span> changed its priority" in center.get(f"/jobs/{job}/_history").text


@pytest.mark.parametrize(
    "path", ["/api/jobs/7", "/api/jobs/7/metrics", "/api/jobs/7/log", "/api/jobs/7/events", "/api/jobs/x"]
)
def test_a_stranger_id_is_a_404(center: Center, path: str) -> None:
    assert center.get(path).status_code == 404


def test_the_list_pages_and_filters_by_state(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    ids = [center.make_job(dataset_id)["id"] for _ in range(3)]
    center.act(ids[1], "cancel")
    page = center.get("/api/jobs?limit=2").json()
    assert ([one["id"] for one in page["items"]], page["next"]) == ([ids[2], ids[1]], ids[1])
    assert [one["id"] for one in center.get("/api/jobs?state=queued").json()["items"]] == [ids[2], ids[0]]
    assert center.get("/api/jobs?state=odd").status_code == 422


def test_the_table_of_transitions_is_that_of_the_contract() -> None:
    wanted = {
        "queued": {"claimed", "cancelled"},
        "claimed": {"running", "queued", "paused", "failed", "cancelled"},
        "running": {"succeeded", "failed", "cancelled", "paused", "queued"},
        "paused": {"queued", "cancelled"},
        "failed": {"queued"},
        "cancelled": {"queued"},
        "succeeded": set(),
    }
    assert {str(state): {str(one) for one in TRANSITIONS[state]} for state in JobState} == wanted


@pytest.mark.parametrize(
    "path", [f"/api/jobs/{2**70}", f"/api/datasets/{2**64}", f"/jobs/{2**63}", f"/api/adapters/{10**30}"]
)
def test_an_id_that_no_row_can_have_is_a_404(center: Center, path: str) -> None:
    assert center.get(path).status_code == 404


def test_a_dataset_id_that_no_row_can_have_is_a_wrong_field(center: Center) -> None:
    answer = center.post("/api/jobs", json={"dataset_id": 2**70, "model": "tiny-qwen3-vl"})
    assert answer.status_code == 422 and fields(answer.json()) == {"dataset_id"}


def test_curl_without_a_content_type_is_understood(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    headers = center.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"dataset_id": %d, "model": "tiny-qwen3-vl"}' % dataset_id
    assert center.client.post("/api/jobs", headers=headers, content=body).status_code == 201


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff\xfe", b"[" + b"9" * 5000 + b"]"])
def test_broken_json_is_a_wrong_body(center: Center, content: bytes) -> None:
    for path in ("/api/jobs", "/api/jobs/1/clone"):
        headers = center.headers | {"Content-Type": "application/json"}
        answer = center.client.post(path, headers=headers, content=content)
        assert answer.status_code == 422 and answer.json()["error"]["detail"]


@pytest.mark.parametrize("config", [{"system_prompt": "a\ud800b"}, {"max_steps": 10**30}, {"lora_alpha": 1e308}])
def test_a_value_that_could_not_be_kept_is_a_wrong_field(center: Center, config: dict[str, object]) -> None:
    body = json.dumps({"dataset_id": 99, "model": "tiny-qwen3-vl", "config": config}).encode()
    answer = center.client.post("/api/jobs", headers=center.headers, content=body)
    assert answer.status_code == 422 and {"dataset_id", f"config.{next(iter(config))}"} <= fields(answer.json())


def test_the_advice_to_clone_with_other_limits_can_be_followed(center: Center) -> None:
    first = center.make_job()["id"]
    second = center.make_job(depends_on=[first], max_duration_s=5, priority="low")["id"]
    center.act(first, "cancel")
    assert "clone it with `depends_on`" in center.job(second)["error"]["advice"]
    assert center.act(second, "clone").status_code == 409
    changed: dict[str, Any] = {"depends_on": [], "max_duration_s": None, "name": "again", "config": {"epochs": 2}}
    clone = center.act(second, "clone", changed).json()
    assert (clone["depends_on"], clone["max_duration_s"], clone["name"]) == ([], None, "again")
    assert (clone["config"]["epochs"], clone["priority"], clone["state"]) == (2, "low", "queued")
    assert center.act(second, "clone", {"max_duration_s": -1}).status_code == 422


def test_a_job_on_a_dataset_with_a_long_name_can_be_cloned(center: Center) -> None:
    dataset = center.upload(rows(3), "n" * 200)
    job = center.make_job(dataset["id"])
    assert len(job["name"]) <= 200
    assert center.act(job["id"], "clone").status_code == 201


def test_names_keep_no_control_characters(center: Center) -> None:
    assert center.make_job(name="a\x00\n\u202eb")["name"] == "ab"


def test_a_number_of_thousands_of_digits_names_no_dataset(center: Center) -> None:
    answer = center.post("/api/jobs", json={"dataset_id": "9" * 5000, "model": "tiny-qwen3-vl"})
    assert answer.status_code == 422 and "dataset_id" in answer.json()["error"]["message"]


def test_a_job_is_not_queued_again_on_a_dataset_that_cannot_be_trained(center: Center) -> None:
    dataset = center.upload(rows(30))["id"]
    job = center.make_job(dataset)["id"]
    claim = center.worker().must_claim()
    claim.begin()
    claim.end("failed", error={"code": "x", "message": "m"})
    center.post(f"/api/datasets/{dataset}/reading", json={"shape": "instruction"})
    assert center.wait_for_dataset(dataset)["state"] == "refused"
    answer = center.act(job, "retry")
    assert answer.status_code == 409 and "is refused" in answer.json()["error"]["message"]


def test_a_job_keeps_records_to_train_on(center: Center) -> None:
    dataset = center.upload(rows(30))["id"]
    asked = {"dataset_id": dataset, "model": "tiny-qwen3-vl"}
    for count, status in ((30, 422), (500, 422), (29, 201)):
        answer = center.post("/api/jobs", json=asked | {"config": {"validation_count": count}})
        assert answer.status_code == status
        assert status == 201 or "must be below 30" in answer.json()["error"]["message"]
    other = center.upload(rows(5, "b"))["id"]
    wanted = {"validation_count": 500, "validation_dataset_id": other}
    assert center.post("/api/jobs", json=asked | {"config": wanted}).status_code == 201


def test_a_job_does_not_validate_with_what_it_trains_on(center: Center) -> None:
    one, two = (center.upload(rows(30, seed))["id"] for seed in "ab")
    for datasets in ([{"id": one}], [{"id": two}, {"id": one}]):
        body = {"datasets": datasets, "model": "tiny-qwen3-vl", "config": {"validation_dataset_id": one}}
        answer = center.post("/api/jobs", json=body)
        assert answer.status_code == 422 and "is trained on" in answer.json()["error"]["message"]
