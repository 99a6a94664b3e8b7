import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.analyse import Progress, analyse, main, unpacked
from app.conversations.containers.reading import Reading

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": %s}]}'


def messages_of(path: Path) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    analyse(path, said.append, Progress(said.append))
    return said


def written(folder: Path, *lines: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_last_message_sums_up(tmp_path: Path) -> None:
    answers = ('"text"', "1", "2.5", "true", "[]", "{}", '[{"type": "text", "text": "a"}]', "null")
    last = messages_of(written(tmp_path, *(GOOD % answer for answer in answers), "", "{"))[-1]
    assert (last["done"], last["num_records"], last["num_valid"]) == (True, 9, 7)
    found = {"null_content": 1, "not_json": 1, "blank_line": 1, "bare_count": 2, "contradiction": 6}
    assert last["findings"] == found
    kinds = {"text": 2, "integer": 1, "number": 1, "boolean": 1, "list": 1, "object": 1}
    assert last["statistics"]["answer_kinds"] == kinds
    assert (last["statistics"]["turns"], last["statistics"]["records"]) == (14, 9)


def test_every_finding_is_told_once_in_batches(tmp_path: Path) -> None:
    said = messages_of(written(tmp_path, *["{"] * 1201))
    batches = [message["findings"] for message in said if "done" not in message and "findings" in message]
    assert [len(batch) for batch in batches] == [500, 500, 201]
    assert [finding["line"] for batch in batches for finding in batch] == list(range(1, 1202))


def test_progress_is_told_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.analyse.PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr("app.conversations.inspection.PART_SIZE", 16 * len(GOOD % 1))
    said = messages_of(written(tmp_path, *[GOOD % 1] * 64))
    shares = [message["progress"] for message in said if "progress" in message]
    assert shares == sorted(shares)
    assert (len(shares), said[0]["num_records"], said[0]["num_valid"]) == (4, 16, 16)
    assert 0.2 < shares[0] < 0.3


def test_unpacking_is_the_first_part_of_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.analyse.PROGRESS_EVERY_S", 0.0)
    numbers = random.Random(1)
    path = tmp_path / "data.jsonl.gz"
    lines = (GOOD % f'"{numbers.getrandbits(2000):x}"' for _ in range(9000))
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    said: list[dict[str, Any]] = []
    progress = Progress(said.append)
    analyse(unpacked(path, tmp_path / "lines", Reading(), said.append, progress), said.append, progress)
    shares = [message["progress"] for message in said if "progress" in message]
    assert shares == sorted(shares)
    end = next(place for place, message in enumerate(said) if "unpacked" in message)
    assert 0.25 < said[end - 1]["progress"] <= 0.3 < said[end + 1]["progress"]
    assert len({message["progress"] for message in said[:end]}) > 3


def test_an_empty_file_has_nothing(tmp_path: Path) -> None:
    assert messages_of(written(tmp_path))[-1]["num_records"] == 0


def test_as_a_process_it_prints_json_lines_and_loads_no_library_for_training(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD % '"Zürich"', "caf")
    command = [sys.executable, "-X", "importtime", "-m", "app.analyse", str(path), str(tmp_path / "lines"), "{}", "[]"]
    done = subprocess.run(command, capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(line) for line in lines] == [
        ["unpacked"],
        ["findings"],
        ["done", "num_records", "num_valid", "findings", "statistics"],
    ]
    assert not {b"torch", b"transformers", b"sqlmodel"} & set(done.stderr.split())


def test_a_file_that_cannot_be_read_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl"), str(tmp_path / "lines"), "{}", "[]"]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": "The file cannot be read: No such file or directory."}
    assert main([]) == 2
