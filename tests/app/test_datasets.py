import gzip
import hashlib
import json
from pathlib import Path

import pytest

from app.config import Settings
from app.storage import Storage
from tests.factories import Center, jsonl, record, rows

GOOD = rows(3)


def test_three_ways_in_store_the_same_bytes(center: Center, settings: Settings) -> None:
    put = center.client.put("/api/datasets/my%20rows.jsonl", headers=center.headers, content=GOOD)
    raw = center.client.post("/api/datasets?name=b.jsonl", headers=center.headers, content=GOOD + rows(1, "b"))
    form = center.client.post(
        "/api/datasets",
        headers=center.headers,
        files={"other": ("o", b"zzz"), "file": ("ü.jsonl", GOOD + rows(1, "c"))},
    )
    assert [put.status_code, raw.status_code, form.status_code] == [201, 201, 201]
    assert [one.json()["name"] for one in (put, raw, form)] == ["my rows.jsonl", "b.jsonl", "ü.jsonl"]
    sha256 = hashlib.sha256(GOOD).hexdigest()
    assert put.json()["sha256"] == sha256
    assert (settings.data_dir / "datasets" / sha256[:2] / f"{sha256}.jsonl").read_bytes() == GOOD


def test_a_small_dataset_is_ready_when_the_answer_comes(center: Center) -> None:
    dataset = center.upload(GOOD)
    assert (dataset["state"], dataset["num_records"], dataset["num_valid"], dataset["findings"]) == (
        *("ready", 3, 3),
        {"bare_count": 3},
    )


def test_the_same_bytes_again_are_the_same_dataset(center: Center) -> None:
    first = center.upload(GOOD)
    again = center.client.put("/api/datasets/other.jsonl", headers=center.headers, content=GOOD)
    assert (again.status_code, again.json()["id"], again.json()["duplicate"]) == (200, first["id"], True)


def test_an_empty_body_is_refused(center: Center, settings: Settings) -> None:
    answer = center.client.put("/api/datasets/x", headers=center.headers, content=b"")
    assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, "file")
    assert list((settings.data_dir / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"no boundary", "multipart/form-data"),
        (b"--" + b"x" * 300 + b"--\r\n", f"multipart/form-data; boundary={'x' * 300}"),
        (b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nz\r\n--x--\r\n', "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut', "multipart/form-data; boundary=x"),
    ],
)
def test_a_broken_form_is_a_clear_refusal(center: Center, settings: Settings, content: bytes, header: str) -> None:
    answer = center.client.post("/api/datasets", headers=center.headers | {"Content-Type": header}, content=content)
    assert answer.status_code == 422
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_a_raw_body_under_a_form_type_of_curl_is_taken_as_it_is(center: Center) -> None:
    headers = center.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    assert center.client.post("/api/datasets?name=a", headers=headers, content=GOOD).json()["num_valid"] == 3


def test_nothing_valid_is_refused_with_the_first_reasons(center: Center) -> None:
    dataset = center.upload(b'{"messages": []}\nnot json\n[1]\n7\n')
    assert (dataset["state"], dataset["num_records"], dataset["num_valid"]) == ("refused", 4, 0)
    assert dataset["error"].startswith("No line of it can be trained. Line 1: ") and "Line 3" in dataset["error"]


@pytest.mark.parametrize(
    "content",
    [b"\x00\xff\xfe", b"\x1f\x9b", b"\n\n \n", b"{" * 5000, "\ud800".encode("utf-8", "surrogatepass")],
)
def test_garbage_is_refused_and_never_a_500(center: Center, content: bytes) -> None:
    assert center.upload(content)["state"] == "refused"


def test_findings_name_line_and_field_and_can_be_paged(center: Center) -> None:
    bad = [{"messages": [{"role": "user", "content": "q"}, {"role": "bot", "content": str(i)}]} for i in range(7)]
    dataset = center.upload(GOOD + jsonl(*bad))
    assert dataset["findings"] == {"bare_count": 3, "unknown_role": 7}
    first = center.get(f"/api/datasets/{dataset['id']}/findings?kind=unknown_role&limit=5").json()
    query = f"severity=error&limit=5&after={first['next']}"
    rest = center.get(f"/api/datasets/{dataset['id']}/findings?{query}").json()
    assert [one["line"] for one in first["items"] + rest["items"]] == [4, 5, 6, 7, 8, 9, 10]
    assert (first["items"][0]["field"], first["items"][0]["severity"], rest["next"]) == (
        "messages[1].role",
        "error",
        None,
    )
    assert center.get(f"/api/datasets/{dataset['id']}/findings?severity=note").json()["items"] == []


@pytest.mark.parametrize(("query", "named"), [("kind=bare_counts", "bare_count"), ("severity=bad", "warning")])
def test_a_kind_or_severity_that_does_not_exist_is_said_not_answered_with_nothing(
    center: Center, query: str, named: str
) -> None:
    answer = center.get(f"/api/datasets/{center.upload(GOOD)['id']}/findings?{query}")
    assert answer.status_code == 422 and named in answer.json()["error"]["message"]


def test_a_record_shows_the_tokens_that_are_trained(center: Center) -> None:
    dataset = center.upload(jsonl(record("Where?", {"city": "Zürich", "n": [1, 2.50]}), {"messages": 1}))
    shown = center.get(f"/api/datasets/{dataset['id']}/records/1").json()
    targets = "".join(token["text"] for token in shown["tokens"] if token["role"] == "target")
    assert targets == '{"city": "Zürich", "n": [1, 2.5]}<|im_end|>'
    assert shown["conversation"][0] == {
        "role": "system",
        "content": [{"type": "text", "text": "You are a helpful assistant."}],
    }
    bad = center.get(f"/api/datasets/{dataset['id']}/records/2").json()
    assert (bad["conversation"], bad["findings"][0]["kind"]) == (None, "wrong_shape")
    assert center.get(f"/api/datasets/{dataset['id']}/records/3").status_code == 404
    assert center.get(f"/api/datasets/{dataset['id']}/records/1?model=no/such").status_code == 422


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(center: Center, settings: Settings) -> None:
    settings.max_upload_bytes = 100
    answer = center.client.put("/api/datasets/x", headers=center.headers, content=rows(50))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_a_wrong_checksum_is_refused(center: Center) -> None:
    headers = center.headers | {"X-Checksum-Sha256": "0" * 64}
    assert center.client.put("/api/datasets/x", headers=headers, content=GOOD).status_code == 422


def test_the_list_is_newest_first_and_pages(center: Center) -> None:
    ids = [center.upload(rows(2, str(i)), f"{i}.jsonl")["id"] for i in range(3)]
    first = center.get("/api/datasets?limit=2").json()
    assert [one["id"] for one in first["items"]] == [ids[2], ids[1]]
    assert [one["id"] for one in center.get(f"/api/datasets?limit=2&after={first['next']}").json()["items"]] == [ids[0]]
    assert center.get("/api/datasets?limit=0").status_code == 422
    assert center.get("/api/datasets/99").status_code == 404
    assert center.get("/api/datasets/abc").status_code == 404


def test_names_are_shown_without_folders_or_control_characters(center: Center) -> None:
    answer = center.client.put("/api/datasets/..%2F..%2Fetc%2Fpass%07wd", headers=center.headers, content=GOOD)
    assert answer.json()["name"] == "passwd"


def test_what_an_interrupted_upload_left_is_swept_out(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.prepare()
    (storage.incoming / ".part-abc").write_bytes(b"x")
    storage.prepare()
    assert list(storage.incoming.iterdir()) == []


def test_a_packed_dataset_is_unpacked_once_and_the_worker_gets_its_lines(center: Center, settings: Settings) -> None:
    records = [record(f"Is {n} + {n} even?", f"yes, {n}") for n in range(25)]
    dataset = center.upload(gzip.compress(json.dumps(records, indent=1).encode()), "data.json.gz")
    assert (dataset["state"], dataset["num_valid"], dataset["container"]) == ("ready", 25, "gzip, json array")
    assert dataset["statistics"]["shape"] == "messages"
    shown = center.get(f"/api/datasets/{dataset['id']}/records/7").json()
    assert json.loads(shown["raw"]) == records[6]
    center.make_job(dataset["id"])
    claim = center.worker().must_claim()
    lines = center.client.get(f"/api/worker/jobs/{claim.job_id}/dataset", headers=claim.headers).content
    assert [json.loads(line) for line in lines.splitlines()] == records
    assert hashlib.sha256(lines).hexdigest() == claim.body["dataset"]["sha256"]


def test_a_file_that_cannot_be_unpacked_fails_with_a_sentence(center: Center) -> None:
    dataset = center.upload(gzip.compress(GOOD)[:-9])
    assert (dataset["state"], dataset["error"][:39]) == ("failed", "The gzip data is damaged or was cut: Co")


def test_a_shape_and_names_of_fields_can_be_given(center: Center) -> None:
    dataset = center.upload(jsonl(*[{"question": f"q{n}", "reply": f"a{n}"} for n in range(3)]))
    assert dataset["state"] == "refused"
    asked = {"shape": "prompt", "fields": {"prompt": "question", "response": "reply"}}
    answer = center.post(f"/api/datasets/{dataset['id']}/reading", json=asked)
    assert (answer.status_code, answer.json()["reading"]) == (202, asked)
    again = center.wait_for_dataset(dataset["id"])
    assert (again["state"], again["num_valid"], again["statistics"]["shape"]) == ("ready", 3, "prompt")
    wrong = center.post(f"/api/datasets/{dataset['id']}/reading", json={"shape": "other"})
    assert (wrong.status_code, wrong.json()["error"]["detail"][0]["field"]) == (422, "shape")
    center.make_job(dataset["id"])
    assert center.post(f"/api/datasets/{dataset['id']}/reading", json={}).status_code == 409


def test_a_shape_can_be_given_with_the_file(center: Center) -> None:
    content = jsonl(*[{"question": f"q{n}", "reply": f"a{n}"} for n in range(3)])
    assert center.upload(content)["state"] == "refused"
    asked = "?shape=prompt&fields=prompt=question,response=reply"
    again = center.upload(content, f"rows.jsonl{asked}")
    assert (again["duplicate"], again["reading"]["shape"], again["num_valid"]) == (True, "prompt", 3)
    other = center.upload(content + b"\n", f"other.jsonl{asked}")
    assert (other["state"], other["num_valid"]) == ("ready", 3)
    for wrong, field in (("shape=odd", "shape"), ("fields=prompt", "fields"), ("fields=odd=question", "fields")):
        answer = center.client.put(f"/api/datasets/new.jsonl?{wrong}", headers=center.headers, content=b"{}\n")
        assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, field)
