"""A version is its parent without the faults that were named, and says line by line what it changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.conversations.rewriting import REPAIRABLE
from tests.factories import Center, jsonl, record, rows

KEY = "AKIA" + "IOSFODNN7ABCDEFG"
FINE = {"list": "a b c d e f g"}
FAULTY = {
    "bare_count": record("How many?", 596),
    "mojibake": record("Where?", "in ZÃ¼rich"),
    "think_leak": record("Why?", "<think>\nhm\n\nBecause."),
    "secret": record("Key?", f"it is {KEY} now"),
    "personal_data": record("Whom?", "write to ada@lovelace.dev"),
    "exact_duplicate": record("Fine?", FINE),
    "near_duplicate": record("List?", " ".join(f"word{n}" for n in range(99)) + " last"),
}


def faulty() -> bytes:
    near = record("Please list?", " ".join(f"word{n}" for n in range(99)) + " end")
    return jsonl(record("Fine?", FINE), near, *FAULTY.values()) + b'{"messages": []}\n'


def version(center: Center, dataset_id: int, **asked: Any) -> dict[str, Any]:
    answer = center.post(f"/api/datasets/{dataset_id}/versions", json=asked)
    assert answer.status_code in (200, 202), answer.text
    return center.wait_for_dataset(answer.json()["id"])


def diff(center: Center, dataset_id: int, query: str = "") -> dict[str, Any]:
    shown: dict[str, Any] = center.get(f"/api/datasets/{dataset_id}/diff{query}").json()
    return shown


@pytest.mark.parametrize("kind", sorted(FAULTY))
def test_a_repaired_version_has_none_of_what_was_repaired(center: Center, kind: str) -> None:
    parent = center.upload(faulty())
    assert parent["findings"][kind]
    made = version(center, parent["id"], repair=[kind])
    assert (made["state"], made["version"], made["parent_id"]) == ("ready", 2, parent["id"])
    left = parent["findings"].keys() - {kind}
    assert kind not in made["findings"] and left <= made["findings"].keys()


def test_all_that_can_be_repaired_at_once(center: Center) -> None:
    parent = center.upload(faulty())
    made = version(center, parent["id"], repair=sorted(FAULTY), exclude=["wrong_shape"])
    assert not made["findings"].keys() & {*FAULTY, "wrong_shape"}
    assert made["num_records"] == made["num_valid"] == 7
    assert made["made"]["counts"] == {"repaired": 5, "dropped": 2, "excluded": 1}


def test_the_diff_shows_each_line_as_it_was_and_is(center: Center) -> None:
    lines = [record("q", "fine"), record("How many?", 3), {"messages": []}, record("n?", "7"), record("z", "end")]
    made = version(center, center.upload(jsonl(*lines))["id"], repair=["bare_count"], exclude=["wrong_shape"])
    first = diff(center, made["id"], "?limit=2")
    items = first["items"] + diff(center, made["id"], f"?limit=2&after={first['next']}")["items"]
    assert [(one["line"], one["new_line"], one["action"], one["kinds"]) for one in items] == [
        (2, 2, "repaired", ["bare_count"]),
        (3, None, "excluded", ["wrong_shape"]),
        (4, 3, "repaired", ["bare_count"]),
    ]
    assert json.loads(items[0]["before"]) == lines[1]
    assert json.loads(items[0]["after"]) == record("How many?", {"count": 3})
    assert items[1]["after"] is None
    shown = center.get(f"/api/datasets/{made['id']}/records/3").json()
    assert shown["raw"] == items[2]["after"]


def test_the_parent_keeps_its_bytes_and_the_rest_of_the_lines_are_copied(center: Center, settings: Settings) -> None:
    odd = b'{"messages":[ {"role":"user","content":"q"},{"role":"assistant","content":1e400}]}\r\n'
    content = rows(1) + odd.replace(b"1e400", b'{"x": 1e400}')
    parent = center.upload(content)
    made = version(center, parent["id"], exclude=["bare_count"])

    def stored(one: dict[str, Any]) -> bytes:
        place = settings.data_dir / "datasets" / one["sha256"][:2] / f"{one['sha256']}.jsonl"
        content: bytes = place.read_bytes()
        return content

    assert stored(parent) == content
    assert stored(made) == content.splitlines(keepends=True)[1]
    assert sorted(path.name for path in (settings.data_dir / "incoming").iterdir()) == []


def test_a_mended_line_that_repeats_another_goes_where_repeats_are_to_go(center: Center) -> None:
    twins = jsonl(record("n?", {"count": 3}), record("n?", "3"), record("m?", "x"), record("m?", "x"))
    made = version(center, center.upload(twins)["id"], repair=["bare_count", "exact_duplicate"])
    assert (made["num_records"], made["findings"]) == (2, {})


def test_marks_line_ends_and_blank_lines_of_windows_are_repaired(center: Center, settings: Settings) -> None:
    lines = jsonl(record("a", "x"), record("b", "y"))
    parent = center.upload(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n\r\n"))
    assert len(parent["findings"]) == 3
    made = version(center, parent["id"], repair=["windows_line_ends"])
    path = settings.data_dir / "datasets" / made["sha256"][:2] / f"{made['sha256']}.jsonl"
    assert path.read_bytes() == lines


def test_a_fault_in_the_arguments_of_a_tool_is_mended_too(center: Center) -> None:
    call = {"type": "function", "function": {"name": "go", "arguments": '{"to": "ZÃ¼rich"}'}}
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    made = version(center, center.upload(jsonl({"messages": turns}))["id"], repair=["mojibake"])
    assert "Zürich" in diff(center, made["id"])["items"][0]["after"] and made["findings"] == {}


def test_versions_form_a_list_with_parent_and_counts(center: Center) -> None:
    parent = center.upload(faulty(), "mine.jsonl")
    second = version(center, parent["id"], repair=["bare_count"])
    third = version(center, second["id"], exclude=["wrong_shape"], name="clean.jsonl")
    shown = center.get(f"/api/datasets/{second['id']}/versions").json()["items"]
    assert [(one["id"], one["version"], one["parent_id"]) for one in shown] == [
        (parent["id"], 1, None),
        (second["id"], 2, parent["id"]),
        (third["id"], 3, second["id"]),
    ]
    assert (shown[1]["repair"], shown[1]["counts"]) == (["bare_count"], {"repaired": 1})
    assert (second["name"], third["name"]) == ("mine-v2.jsonl", "clean.jsonl")


def test_the_same_again_is_the_version_that_is_there(center: Center) -> None:
    parent = center.upload(faulty())
    asked = {"repair": ["bare_count"]}
    first = version(center, parent["id"], **asked)
    again = center.post(f"/api/datasets/{parent['id']}/versions", json=asked)
    assert (again.status_code, again.json()["id"], again.json()["duplicate"]) == (200, first["id"], True)
    nothing = center.post(f"/api/datasets/{parent['id']}/versions", json={"repair": ["duplicate_key"]})
    assert (nothing.status_code, nothing.json()["id"]) == (200, parent["id"])
    assert center.get(f"/api/datasets/{parent['id']}/diff").status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"exclude": ["nonsense"]}, "exclude"),
        ({"repair": ["null_content"]}, "repair"),
        ({"exclude": ["blank_line"]}, "exclude"),
        ({"exclude": ["secret"], "repair": ["secret"]}, "repair"),
        ({}, "repair"),
        ({"exclude": ["bare_count"]}, "exclude"),
        ({"mend": ["secret"]}, "mend"),
        (["secret"], "body"),
    ],
)
def test_what_cannot_be_done_is_a_wrong_field(center: Center, asked: Any, field: str) -> None:
    parent = center.upload(rows(3))
    answer = center.post(f"/api/datasets/{parent['id']}/versions", json=asked)
    assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, field)


def test_a_dataset_that_is_not_ready_has_no_versions_made(center: Center) -> None:
    refused = center.upload(b"{}\n")
    answer = center.post(f"/api/datasets/{refused['id']}/versions", json={"exclude": ["wrong_shape"]})
    assert answer.status_code == 409 and "is refused" in answer.json()["error"]["message"]
    assert center.post("/api/datasets/99/versions", json={"exclude": ["wrong_shape"]}).status_code == 404


def test_every_sort_of_repair_is_tried_here() -> None:
    assert REPAIRABLE.keys() == {*FAULTY, "duplicate_key"}


def test_a_key_that_stands_twice_is_written_once(center: Center, tmp_path: Path) -> None:
    line = b'{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}\n'
    made = version(center, center.upload(line)["id"], repair=["duplicate_key"])
    assert made["findings"] == {}
    assert json.loads(diff(center, made["id"])["items"][0]["after"]) == record("b", "c")


def test_without_its_parent_a_version_says_that_nothing_is_left_to_compare_with(center: Center) -> None:
    parent = center.upload(rows(30) + rows(1))["id"]
    made = center.post(f"/api/datasets/{parent}/versions", json={"exclude": ["exact_duplicate"]}).json()
    made = center.wait_for_dataset(made["id"])
    center.client.delete(f"/api/datasets/{parent}", headers=center.headers)
    center.client.post("/api/trash/empty", headers=center.headers)
    answer = center.get(f"/api/datasets/{made['id']}/diff")
    assert answer.status_code == 404 and f"Dataset {parent}," in answer.json()["error"]["message"]
