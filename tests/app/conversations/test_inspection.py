"""A whole file: the planted faults of field-like data, parts and processes, totals."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from app.conversations.findings import Finding
from app.conversations.inspection import inspect
from app.conversations.part import Options
from app.conversations.template import ModelIncomplete
from tests.factories import jsonl, record
from tests.rules.tree import ROOT


def field_like(folder: Path, *arguments: str) -> tuple[Path, dict[str, list[int]]]:
    path = folder / "leo.jsonl"
    command = [sys.executable, str(ROOT / "examples" / "make_leo_like.py"), str(path), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    truth: dict[str, list[int]] = json.loads(path.with_suffix(".truth.json").read_text())["faults"]
    return path, truth


def findings_of(path: Path) -> list[Finding]:
    with inspect(path, Options()) as seen:
        return list(seen.findings())


def check_quality(folder: Path, rows: int, seed: int) -> None:
    path, truth = field_like(folder, "--rows", str(rows), "--seed", str(seed))
    findings = findings_of(path)
    lines = defaultdict(set)
    for finding in findings:
        lines[finding.kind].add(finding.line)
    assert {kind: set(planted) - lines[kind] for kind, planted in truth.items()} == {kind: set() for kind in truth}
    bad = {finding.line for finding in findings if finding.severity != "note"}
    assert len(bad & {line for planted in truth.values() for line in planted}) >= 0.99 * len(bad)
    assert [finding.line for finding in findings] == sorted(finding.line for finding in findings)


@pytest.mark.parametrize("seed", [42, 7])
def test_every_planted_fault_is_found_at_its_line_and_hardly_anything_else(tmp_path: Path, seed: int) -> None:
    check_quality(tmp_path, 500, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [42, 1, 2, 3])
def test_every_planted_fault_of_a_large_file_is_found(tmp_path: Path, seed: int) -> None:
    check_quality(tmp_path, 10_000, seed)


@pytest.mark.parametrize("rows", [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_clean_data_has_no_error_and_no_warning(tmp_path: Path, rows: int) -> None:
    path, _ = field_like(tmp_path, "--clean", "--rows", str(rows))
    assert [finding for finding in findings_of(path) if finding.severity != "note"] == []


def test_parts_and_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = field_like(tmp_path, "--rows", "300")
    with inspect(path, Options()) as seen:
        whole = list(seen.findings()), seen.totals(), seen.num_valid
    monkeypatch.setattr("app.conversations.inspection.PART_SIZE", 100_000)
    monkeypatch.setattr("app.conversations.inspection.WORTH_PROCESSES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    with inspect(path, Options()) as seen:
        assert (list(seen.findings()), seen.totals(), seen.num_valid) == whole


def test_a_process_that_dies_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(jsonl(*[record(f"q{n}", "a") for n in range(50)]))
    monkeypatch.setattr("app.conversations.inspection.PART_SIZE", 500)
    monkeypatch.setattr("app.conversations.inspection.WORTH_PROCESSES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("sys.executable", "/bin/true")
    with pytest.raises(OSError, match=r"ended with code|Broken pipe"):
        inspect(path, Options())


def test_a_model_without_its_files_is_said_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(jsonl(record("q", "a")))
    with pytest.raises(ModelIncomplete, match=r"no tokenizer\.json"):
        inspect(path, Options(model_dir=str(tmp_path)))


def test_tables_larger_than_memory_should_hold_are_gone_through_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = field_like(tmp_path, "--rows", "200")
    whole = findings_of(path)
    monkeypatch.setattr("app.conversations.lints.columns.TABLE_ROWS", 40)
    monkeypatch.setattr("app.conversations.lints.near_pairs.TABLE_ROWS", 40)
    assert findings_of(path) == whole


def test_the_totals_name_the_languages(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows: list[Any] = [record("What is the name of it?", "a"), record("Was ist das und wie?", "b"), record("1", "2x")]
    path.write_bytes(jsonl(*rows))
    with inspect(path, Options()) as seen:
        assert seen.totals()["languages"] == {"en": 1, "de": 1}
