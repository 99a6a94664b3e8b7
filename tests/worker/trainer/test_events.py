"""Events: numbered, one a line, readable by any JSON parser."""

import json
from pathlib import Path

from worker.trainer.events import EventLog


def test_numbering_goes_on_where_another_process_left_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq": 7, "kind": "log"}\n', "utf-8")
    log = EventLog(path)
    log.log("hello")
    log.close()
    assert [json.loads(line)["seq"] for line in path.read_text("utf-8").splitlines()] == [7, 8]


def test_a_torn_line_is_closed_and_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"seq": 7, "kind": "log"}\n{"seq": 8, "ki')
    log = EventLog(path)
    log.log("hello")
    log.close()
    assert json.loads(path.read_bytes().split(b"\n")[2])["seq"] == 8


def test_what_is_not_a_number_becomes_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("step", step=3, loss=float("nan"), nested=[{"x": float("inf")}])
    event = json.loads((tmp_path / "events.jsonl").read_bytes())
    log.close()
    assert (event["loss"], event["nested"]) == (None, [{"x": None}])


def test_the_last_reported_step_is_known(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", step=4)
    assert log.step == 4
    log.emit("step", step=5)
    log.close()
    assert log.step == 5


def test_times_are_utc_with_a_z(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.log("Größe")
    line = (tmp_path / "events.jsonl").read_text("utf-8")
    log.close()
    assert json.loads(line)["at"].endswith("Z")
    assert "Größe" in line
