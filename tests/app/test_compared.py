"""A validation dataset compared with what is trained on: its findings, its versions, the pages that tell of it."""

from typing import Any

import pytest

from app.models import Dataset
from tests.factories import Center, jsonl, record, rows


def compare(center: Center, dataset_id: int, *others: int) -> dict[str, Any]:
    answer = center.post(f"/api/datasets/{dataset_id}/compare", json={"datasets": list(others)})
    assert answer.status_code == 202, answer.text
    return center.wait_for_dataset(dataset_id)


def test_what_stands_in_both_is_found_and_a_version_is_free_of_it(center: Center) -> None:
    train, more = center.upload(rows(30, "a"), "train.jsonl")["id"], center.upload(rows(3, "b"), "more.jsonl")["id"]
    own = center.upload(jsonl(record("c What?", 9), record("A  what is 4 + 4?", 1)) + rows(1, "b"), "own.jsonl")
    before = own["findings"]
    assert "leakage" not in before
    own = compare(center, own["id"], train, more)
    assert (own["compared_with"], own["findings"]) == ([train, more], before | {"leakage": 2})
    found = center.get(f"/api/datasets/{own['id']}/findings").json()["items"]
    assert [one["line"] for one in found] == sorted(one["line"] for one in found)
    told = [
        (one["line"], one["other_line"], one["other_dataset"], one["message"])
        for one in found
        if one["kind"] == "leakage"
    ]
    assert told == [
        (2, 5, train, "Line 5 of train.jsonl has the same question."),
        (3, 1, more, "Line 1 of more.jsonl has the same question."),
    ]
    made = center.post(f"/api/datasets/{own['id']}/versions", json={"exclude": ["leakage"]}).json()
    made = center.wait_for_dataset(made["id"])
    assert (made["compared_with"], made["num_valid"], "leakage" in made["findings"]) == ([train, more], 1, False)
    assert "leakage" not in compare(center, own["id"])["findings"]


def test_what_cannot_be_compared_is_told_in_a_sentence(center: Center) -> None:
    own, train = center.upload(rows(3, "a"))["id"], center.upload(rows(30, "b"))["id"]
    place = f"/api/datasets/{own}/compare"
    for asked, words in (
        ([own], f"other datasets than {own} itself"),
        ([train, 10**6], "names dataset 1000000, which does not exist"),
        ([0], "must be at least 1"),
        (["1"], "whole number"),
    ):
        answer = center.post(place, json={"datasets": asked})
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"] + str(answer.json()["error"]["detail"])
    center.client.delete(f"/api/datasets/{train}", headers=center.headers)
    assert center.post(place, json={"datasets": [train]}).status_code == 422
    assert center.post(f"/api/datasets/{10**6}/compare", json={"datasets": []}).status_code == 404


def test_a_job_that_reads_it_keeps_it_as_it_is(center: Center) -> None:
    train = center.upload(rows(30, "a"))["id"]
    own = center.upload(rows(3, "b"))["id"]
    center.make_job(train, config={"validation_dataset_id": own})
    compare(center, own, train)
    center.worker().must_claim()
    answer = center.post(f"/api/datasets/{own}/compare", json={"datasets": [train]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "state_forbids")


def test_what_it_was_compared_with_may_be_gone_for_good(center: Center) -> None:
    train, own = center.upload(rows(30, "a"))["id"], center.upload(rows(3, "a"))
    assert compare(center, own["id"], train)["findings"]["leakage"] == 3
    center.app.state.storage.dataset(center.get(f"/api/datasets/{train}").json()["sha256"]).unlink()
    center.post(f"/api/datasets/{own['id']}/reading", json={})
    again = center.wait_for_dataset(own["id"])
    assert (again["state"], again["compared_with"], again["findings"]) == ("ready", None, own["findings"])


def test_the_page_compares_and_the_form_of_a_job_tells_of_it(center: Center) -> None:
    train, own = center.upload(rows(30, "a"), "train.jsonl")["id"], center.upload(rows(3, "a"), "own.jsonl")["id"]
    asked = {"dataset_id": train, "model": "tiny-qwen3-vl", "validation_dataset_id": own}

    def post(path: str, sent: dict[str, object]) -> str:
        return center.client.post(path, headers=center.headers, data=sent).text

    assert "own.jsonl was not compared with the training data" in post("/jobs/_estimate", asked)
    assert "Compare with training data" in center.get(f"/datasets/{own}").text
    page = post(f"/datasets/{own}/compare", {"datasets": [train]})
    assert "3 records</a> ask what is trained on" in page
    assert f'value="{train}" checked' in page and f'href="/datasets/{train}/records/1">See it there</a>' in page
    assert f'href="/datasets/{train}/records/1">See it there</a>' in center.get(f"/datasets/{own}/records/1").text
    assert f'/datasets/{own}?of=leakage#findings">3 records</a>' in post("/jobs/_estimate", asked)
    assert "must be numbers of datasets" in post(f"/datasets/{own}/compare", {"datasets": ["²"]})
    other = center.upload(rows(3, "c"), "other.jsonl")["id"]
    assert "No leakage" in post(f"/datasets/{own}/compare", {"datasets": [other]})
    assert "was not compared" in post("/jobs/_estimate", asked)


def test_a_version_follows_what_was_found_when_it_was_made(center: Center) -> None:
    first, second = center.upload(rows(2, "a"), "a.jsonl")["id"], center.upload(rows(2, "b"), "b.jsonl")["id"]
    own = center.upload(rows(2, "a") + rows(2, "b") + rows(2, "c"), "own.jsonl")["id"]
    compare(center, own, first)
    asked = {"exclude": ["leakage"]}
    one = center.post(f"/api/datasets/{own}/versions", json=asked).json()["id"]
    assert center.post(f"/api/datasets/{own}/versions", json=asked).json()["id"] == one
    compare(center, own, second)
    other = center.wait_for_dataset(center.post(f"/api/datasets/{own}/versions", json=asked).json()["id"])
    assert (other["id"] != one, other["num_valid"], other["compared_with"]) == (True, 4, [second])
    compare(center, own, first, second)
    both = center.wait_for_dataset(center.post(f"/api/datasets/{own}/versions", json=asked).json()["id"])
    assert (both["num_valid"], both["compared_with"]) == (2, [first, second])


def mapped(*questions: str) -> bytes:
    return jsonl(*[{"frage": one, "antwort": "a", "kurz": f"{one} in short"} for one in questions])


def test_a_training_dataset_that_is_read_anew_is_compared_anew(center: Center) -> None:
    train = center.upload(mapped("q0", "q1"), "train.jsonl?shape=prompt&fields=prompt=kurz,response=antwort")["id"]
    own = center.upload(jsonl(record("q1", 1)), "own.jsonl")["id"]
    assert compare(center, own, train)["findings"].get("leakage") is None
    reading = {"shape": "prompt", "fields": {"prompt": "frage", "response": "antwort"}}
    assert center.post(f"/api/datasets/{train}/reading", json=reading).status_code == 202
    center.wait_for_dataset(train)
    again = center.wait_for_dataset(own)
    assert (again["findings"]["leakage"], again["compared_with"]) == (1, [train])


def test_numbers_and_diff_are_of_the_way_it_is_read_now(center: Center) -> None:
    content = mapped("q0", "q1", "q0", "q2") + b"\n"
    place = center.upload(content, "t.jsonl?shape=prompt&fields=prompt=kurz,response=antwort")["id"]
    before = center.get(f"/api/datasets/{place}/statistics").json()["tokens"]
    made = center.post(f"/api/datasets/{place}/versions", json={"exclude": ["exact_duplicate"]}).json()["id"]
    assert center.get(f"/api/datasets/{made}/diff").json()["items"][0]["before"].startswith("{")
    reading = {"shape": "prompt", "fields": {"prompt": "frage", "response": "antwort"}}
    center.post(f"/api/datasets/{place}/reading", json=reading)
    center.wait_for_dataset(place)
    assert center.get(f"/api/datasets/{place}/statistics").json()["tokens"] != before
    answer = center.get(f"/api/datasets/{made}/diff")
    assert (answer.status_code, "read in another way since" in answer.json()["error"]["message"]) == (409, True)


def test_what_is_checked_or_in_the_trash_is_not_read_anew(center: Center) -> None:
    own = center.upload(rows(3, "a"))["id"]
    with center.database.write() as session:
        session.get_one(Dataset, own).state = "checking"
    assert center.post(f"/api/datasets/{own}/reading", json={}).status_code == 409
    with center.database.write() as session:
        session.get_one(Dataset, own).state = "ready"
    center.client.delete(f"/api/datasets/{own}", headers=center.headers)
    assert center.post(f"/api/datasets/{own}/reading", json={}).status_code == 409


def test_a_check_can_be_stopped_and_made_again(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routes.datasets.SMALL_WAIT_S", 0.0)
    big = b"".join(rows(2_000, f"part {number}") for number in range(4))
    own = center.upload(big, "big.jsonl")
    assert own["state"] == "checking"
    waiting = center.upload(big + b"\n", "waiting.jsonl")["id"]
    for _ in range(2):
        assert center.post(f"/api/datasets/{waiting}/cancel").json()["state"] == "failed"
        assert center.post(f"/api/datasets/{waiting}/reading", json={}).json()["state"] == "checking"
    stopped = center.post(f"/api/datasets/{own['id']}/cancel").json()
    assert (stopped["state"], stopped["error"][:21]) == ("failed", "Its check was stopped")
    queued = center.upload(rows(2, "behind"), "behind.jsonl")["id"]
    assert center.wait_for_dataset(queued)["state"] == "ready"
    assert center.wait_for_dataset(waiting)["num_records"] == 8_000
    assert center.post(f"/api/datasets/{queued}/cancel").status_code == 409
    assert "Read it differently" in center.get(f"/datasets/{own['id']}").text
    assert center.post(f"/api/datasets/{own['id']}/reading", json={}).status_code == 202
    assert center.wait_for_dataset(own["id"])["num_records"] == 8_000
