from pathlib import Path

import pytest

from app.check import Unreadable, check, exit_code, summary
from app.errors import WrongInput

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": 1}]}\n'


def test_a_clean_file_has_no_finding_and_exits_0(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(GOOD + "\n" + GOOD)
    report = check(path)
    assert report == {"records": 2, "valid": 2, "findings": []}
    assert exit_code(report) == 0


def test_errors_are_listed_complete_and_exit_1(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(GOOD + "{\n" * 1500)
    report = check(path)
    assert (report["records"], report["valid"], len(report["findings"])) == (1501, 1, 1500)
    assert report["findings"][-1]["line"] == 1501
    assert exit_code(report) == 1


@pytest.mark.parametrize("name", ["none.jsonl", "."])
def test_a_file_that_cannot_be_read_is_said_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        check(tmp_path / name)


def test_what_is_not_looked_at_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="model: "):
        check(tmp_path / "any", model="tiny-qwen3-vl")
    with pytest.raises(WrongInput, match="max_length: "):
        check(tmp_path / "any", max_length=100)


def test_the_summary_is_a_line_for_each_finding_and_the_counts(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(GOOD + "[]\n")
    first, last = summary(check(path), path)
    assert first.startswith(f"{path}:2: error wrong_shape: The line holds a list")
    assert last == "2 records, 1 valid, 1 findings"
