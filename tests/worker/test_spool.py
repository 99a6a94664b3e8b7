import json
from pathlib import Path

import pytest

from worker.spool import BATCH, Spool


def write(folder: Path, text: str) -> None:
    with (folder / "events.jsonl").open("a") as stream:
        stream.write(text)


def line(seq: int, kind: str = "log") -> str:
    return json.dumps({"seq": seq, "kind": kind, "step": seq}) + "\n"


def seqs(spool: Spool) -> list[int]:
    return [event["seq"] for event in spool.next_batch()]


def test_a_spool_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert Spool(tmp_path).next_batch() == []


def test_an_unfinished_last_line_waits_for_its_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    write(tmp_path, line(1) + line(2)[:9])
    assert seqs(spool) == [1]
    write(tmp_path, line(2)[9:])
    assert seqs(spool) == [1, 2]


def test_events_stay_until_they_are_accepted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    write(tmp_path, line(1) + line(2) + line(3))
    assert (seqs(spool), seqs(spool)) == ([1, 2, 3], [1, 2, 3])
    assert [event["seq"] for event in spool.accept(2)] == [1, 2]
    assert seqs(spool) == [3]


def test_a_server_that_has_less_gets_it_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    write(tmp_path, line(1) + line(2) + line(3))
    spool.next_batch()
    spool.accept(3)
    spool.accept(1)
    assert seqs(spool) == [2, 3]


def test_a_line_that_is_no_event_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path)
    write(tmp_path, line(1) + "half a li\n[]\n\n" + line(2))
    assert seqs(spool) == [1, 2]
    assert caplog.text.count("is not an event") == 2


def test_a_batch_is_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    write(tmp_path, "".join(line(seq) for seq in range(1, BATCH + 11)))
    assert seqs(spool) == list(range(1, BATCH + 1))
    spool.accept(BATCH)
    assert len(seqs(spool)) == 10


def test_the_worker_counts_on_from_the_last_line(tmp_path: Path) -> None:
    write(tmp_path, line(1) + line(2))
    spool = Spool(tmp_path)
    spool.append("state", {"phase": "fetching"})
    assert [event["kind"] for event in spool.next_batch()] == ["log", "log", "state"]
    assert seqs(spool) == [1, 2, 3]


def test_the_last_step_is_known(tmp_path: Path) -> None:
    write(tmp_path, line(1) + line(8, "step") + line(9))
    spool = Spool(tmp_path)
    spool.next_batch()
    assert spool.last_step == 8
