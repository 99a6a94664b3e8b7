"""A validation dataset compared with what is trained on: its findings, its versions, the pages that tell of it."""

from typing import Any

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
