import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.inbox import Inbox
from tests.factories import Center, jsonl, rows
from tests.inbox_box import SIDECAR, Box


@pytest.fixture
def box(center: Center) -> Iterator[Box]:
    box = Box(center)
    box.folder.mkdir(exist_ok=True)
    yield box
    center.app.state.inbox.stop()


def test_a_file_becomes_an_adapter_and_moves_to_the_archive_with_its_manifest(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    assert (box.one()["state"], box.center.job(1)["config"]["lora_r"]) == ("queued", 4)
    claim = box.claim()
    claim.begin()
    box.step()
    assert box.states() == ["training"]
    claim.succeed()
    box.step()
    assert box.files() == ["archive/a.jsonl", "archive/a.jsonl.manifest.json", "archive/a.jsonl.yaml"]
    paper = box.paper("archive/a.jsonl.manifest.json")
    assert (paper["job"], paper["adapter"], paper["sha256"]) == (1, 1, box.one()["sha256"])
    assert paper["taken_at"] < paper["ended_at"] and box.one()["adapter_id"] == 1


def test_a_file_is_trained_by_a_recipe(box: Box) -> None:
    for name, rank in (("night", 12), ("day", 6)):
        body = {"config": {"lora_r": rank}}
        box.center.client.put(f"/api/recipes/{name}", headers=box.center.headers, json=body)
    box.center.app.state.settings.default_recipe = "night"
    box.drop("a.jsonl", rows(30), "model: tiny-qwen3-vl\n")
    box.drop("b.jsonl", rows(31), "model: tiny-qwen3-vl\nrecipe: day\n")
    box.step()
    box.drop("c.jsonl", rows(32), 'model: tiny-qwen3-vl\nrecipe: ""\nlearning_rate: 1e-4\n')
    box.step()
    assert sorted(box.center.job(number)["config"]["lora_r"] for number in (1, 2, 3)) == [6, 12, 32]
    assert box.center.job(3)["config"]["learning_rate"] == 1e-4


def test_a_default_recipe_that_is_not_there_is_waited_for(box: Box) -> None:
    box.center.app.state.settings.default_recipe = "night"
    box.drop("a.jsonl", rows(30), "model: tiny-qwen3-vl\n")
    box.step()
    assert box.one()["state"] == "waiting" and "--default-recipe" in box.one()["reason"]


def test_a_file_is_taken_only_once_it_has_settled(center: Center) -> None:
    box = Box(center, settle_s=0.3)
    box.inbox.step()
    box.drop("a.jsonl", rows(3))
    box.inbox.step()
    (box.folder / "a.jsonl").write_bytes(rows(4))
    box.inbox.step()
    assert (box.states(), center.get("/api/datasets").json()["items"]) == (["settling"], [])


@pytest.mark.parametrize("name", ["a.part", "a.jsonl.tmp", ".a.jsonl", "a.jsonl~", "a.crdownload", "a.yaml"])
def test_half_written_and_hidden_names_are_left_alone(box: Box, name: str) -> None:
    box.drop(name, rows(3), sidecar=None)
    (box.folder / "folder").mkdir()
    box.step()
    assert (box.items(), box.files()) == ([], [name])


def test_an_empty_file_waits_until_there_is_something_in_it(box: Box) -> None:
    box.drop("a.jsonl", b"")
    box.step()
    assert "empty" in box.one()["reason"]
    box.drop("a.jsonl", rows(3))
    box.step()
    assert box.states() == ["queued"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_never_followed(box: Box, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(rows(3))
    path = box.folder / "a.jsonl"
    path.symlink_to(tmp_path / "secret") if kind == "link" else os.mkfifo(path)
    box.step()
    assert (box.one()["state"], "copy it here" in box.one()["reason"]) == ("held", True)
    assert box.center.get("/api/datasets").json()["items"] == []


def test_a_link_as_sidecar_holds_the_file(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SIDECAR)
    (box.folder / "a.jsonl.yaml").symlink_to(tmp_path / "secret")
    box.drop("a.jsonl", rows(3), sidecar=None)
    box.step()
    assert box.states() == ["held"]


def test_without_a_model_a_file_waits_and_says_for_what(box: Box) -> None:
    box.drop("a.jsonl", rows(3), sidecar=None)
    box.step()
    assert (box.one()["state"], "base model" in box.one()["reason"]) == ("waiting", True)
    (box.folder / "a.yaml").write_text("model: tiny-qwen3-vl\n")
    box.step()
    assert box.states() == ["queued"]


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        ("model: tiny-qwen3-vl\nlorra_r: 4\n", "a.jsonl.yaml line 2: 'lorra_r'"),
        ("model: tiny-qwen3-vl\n\nlora_r: many\n", "a.jsonl.yaml line 3: lora_r"),
        ("model: nowhere\n", "a.jsonl.yaml line 1: model there is no folder"),
        ("model: tiny-qwen3-vl\nfrom_adapter: 7\n", "a.jsonl.yaml line 2: from_adapter there is no adapter 7"),
        ("model: tiny-qwen3-vl\nrecipe: quick\n", "a.jsonl.yaml line 2: recipe"),
    ],
)
def test_a_wrong_sidecar_holds_the_file_until_it_is_mended(box: Box, sidecar: str, told: str) -> None:
    box.drop("a.jsonl", rows(3), sidecar)
    box.step()
    assert (box.one()["state"], box.one()["reason"][: len(told)]) == ("held", told)
    (box.folder / "a.jsonl.yaml").write_text(SIDECAR)
    box.step()
    assert box.states() == ["queued"]


def test_the_same_bytes_are_trained_once(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    box.drop("b.jsonl", rows(30))
    box.step()
    assert box.states() == ["queued", "duplicate"]
    assert "The same bytes as a.jsonl (file 1)" in box.items()[0]["reason"]
    assert box.paper("archive/b.jsonl.manifest.json")["job"] == 1
    assert len(box.center.get("/api/jobs").json()["items"]) == 1


def test_a_duplicate_that_is_replayed_is_trained(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.drop("b.jsonl", rows(30))
    box.step()
    assert box.center.post("/api/inbox/2/replay").status_code == 202
    box.step()
    assert (box.states(), box.items()[0]["job_id"]) == (["queued", "queued"], 2)
    assert box.files() == ["a.jsonl", "a.jsonl.yaml", "b.jsonl", "b.jsonl.yaml"]


def test_a_file_that_is_only_touched_is_still_the_same(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    os.utime(box.folder / "a.jsonl", (1, 1))
    box.step()
    assert (box.states(), box.files()) == (["queued"], ["a.jsonl", "a.jsonl.yaml"])


def test_another_file_under_the_name_of_one_in_work_is_trained_too(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    box.drop("a.jsonl", rows(40))
    box.step()
    assert box.states() == ["queued", "queued"]
    box.claim().succeed()
    box.step()
    assert (box.states()[0], box.files()) == ("archived", ["a.jsonl", "a.jsonl.yaml", "archive/a.jsonl.manifest.json"])


def test_a_file_taken_away_before_it_was_read_leaves_the_list(box: Box) -> None:
    box.drop("a.jsonl", rows(3), sidecar=None)
    box.step()
    (box.folder / "a.jsonl").unlink()
    box.step()
    assert box.items() == []


def test_a_second_control_center_on_one_inbox_does_not_watch_it(box: Box) -> None:
    box.step()
    state = box.center.app.state
    second = Inbox(state.settings, state.database, state.storage, state.disk, state.base_models, box.checks.append, 0)
    box.drop("a.jsonl", rows(3))
    second.step()
    assert "Another control center watches" in (second.standing.problem or "") and box.items() == []
    state.inbox = second
    assert "Another control center watches" in box.center.get("/inbox").text
    box.inbox.stop()
    second.step()
    second.stop()
    assert second.standing.problem is None and len(box.items()) == 1


def test_a_sidecar_of_two_files_serves_both(box: Box) -> None:
    (box.folder / "a.yaml").write_text(SIDECAR)
    box.drop("a.jsonl", b"nothing\n", sidecar=None)
    box.drop("a.json", rows(30), sidecar=None)
    box.step()
    assert sorted(box.states()) == ["quarantined", "queued"]
    assert {"a.yaml", "quarantine/a.jsonl.yaml"} <= set(box.files())


def test_the_page_shows_state_reason_and_links(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.drop("b<i>.jsonl", b"nothing\n")
    box.step()
    html = box.center.get("/inbox").text
    assert 'href="/jobs/1"' in html and 'action="/inbox/2/replay"' in html
    assert "b&lt;i&gt;.jsonl" in html and "No line of it can be trained" in html
    assert box.center.get("/inbox/_rows").status_code == 200
    answer = box.center.client.post("/inbox/2/dismiss", headers=box.center.headers, follow_redirects=False)
    assert answer.headers["location"] == "/inbox"


def test_changes_are_announced(box: Box) -> None:
    box.drop("a.jsonl", rows(30))
    box.step()
    with box.center.database.read() as session:
        found = session.connection().exec_driver_sql("SELECT data FROM event WHERE kind = 'dataset'").scalars()
        told = [json.loads(one).get("inbox", {}).get("state") for one in found]
    assert [state for state in told if state] == ["settling", "checking", "queued"]


def test_a_sidecar_says_how_the_records_are_meant(box: Box) -> None:
    mapped = jsonl(*[{"frage": f"q{number}", "antwort": f"a{number}"} for number in range(30)])
    box.drop("a.jsonl", mapped, SIDECAR + "shape: prompt\nfields: {prompt: frage, response: antwort}\n")
    box.step()
    assert (box.one()["state"], box.center.get("/api/datasets/1").json()["num_valid"]) == ("queued", 30)
    box.drop("b.jsonl", mapped + b"\n", SIDECAR + "fields: [frage]\n")
    box.step()
    assert "b.jsonl.yaml line 3: fields must hold `prompt: question` and such" in box.items()[0]["reason"]
    box.drop("c.jsonl", mapped + b"\n\n", SIDECAR + "shape: odd\n")
    box.step()
    assert "c.jsonl.yaml line 3: shape 'odd' is none of messages" in box.items()[0]["reason"]


def test_a_file_that_cannot_be_read_is_quarantined_with_a_report(box: Box) -> None:
    box.drop("a.jsonl", gzip.compress(rows(30))[:-9])
    box.step()
    assert (box.one()["state"], box.one()["reason"][:31]) == ("quarantined", "The gzip data is damaged or was")
    assert box.paper("quarantine/a.jsonl.report.json")["note"] == box.one()["reason"]


def test_a_name_that_is_not_utf8_is_left_alone(box: Box) -> None:
    Path(os.fsdecode(bytes(box.folder) + b"/\xff.jsonl")).write_bytes(rows(3))
    box.step()
    assert box.items() == []


def test_a_name_that_is_not_utf8_does_not_end_the_watch(center: Center) -> None:
    box = Box(center, settle_s=0.2)
    box.folder.mkdir(exist_ok=True)
    box.inbox.start()
    try:
        time.sleep(1)  # it is listening
        odd = Path(os.fsdecode(bytes(box.folder) + b"/\xff.jsonl"))
        odd.write_bytes(rows(3))
        time.sleep(2)  # watchfiles has met it
        odd.unlink()
        box.drop("a.jsonl", rows(30))
        until = time.monotonic() + 60
        while not box.items():
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        box.inbox.stop()


def test_a_dataset_that_was_deleted_takes_no_file_along(box: Box) -> None:
    box.drop("a.jsonl", b"nothing\n")
    box.step()
    center = box.center
    assert center.client.delete("/api/datasets/1", headers=center.headers).status_code == 200
    assert center.post("/api/trash/empty").json() == {"deleted": 1}
    assert (box.one()["state"], box.one()["dataset_id"]) == ("quarantined", None)


def test_a_folder_that_is_a_link_is_not_followed(box: Box, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (box.folder / "quarantine").symlink_to(tmp_path / "elsewhere")
    box.drop("a.jsonl", b"nothing\n")
    box.step()
    assert (list((tmp_path / "elsewhere").iterdir()), (box.folder / "a.jsonl").exists()) == ([], True)
    (box.folder / "quarantine").unlink()
    box.step()
    assert box.one()["place"] == "quarantine/a.jsonl"
