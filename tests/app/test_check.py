import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.check import Unreadable, check, exit_code, model_folder, summary
from app.cli import cli
from app.config import Settings
from app.conversations.containers.reading import Reading
from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.errors import WrongInput
from tests.factories import jsonl, record


def written(path: Path, *records: object) -> Path:
    path.write_bytes(jsonl(*records))
    return path


def test_a_clean_file_has_no_finding_and_exits_0(tmp_path: Path) -> None:
    report = check(written(tmp_path / "data.jsonl", record("q", {"count": 1}), record("p", {"count": 2})))
    assert (report["records"], report["valid"], report["findings"]) == (2, 2, [])
    assert exit_code(report) == 0


def test_errors_are_listed_complete_and_exit_1(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(jsonl(record("q", "a")) + b"{\n" * 1500)
    report = check(path)
    assert (report["records"], report["valid"], len(report["findings"])) == (1501, 1, 1500)
    assert report["findings"][-1]["line"] == 1501
    assert exit_code(report) == 1


def test_warnings_alone_exit_0(tmp_path: Path) -> None:
    report = check(written(tmp_path / "data.jsonl", record("q", 1)))
    assert [one["kind"] for one in report["findings"]] == ["bare_count"]
    assert exit_code(report) == 0


@pytest.mark.parametrize("name", ["none.jsonl", "."])
def test_a_file_that_cannot_be_read_is_said_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        check(tmp_path / name)


def test_lengths_go_by_the_tokenizer_of_the_model_named(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl", record("the " * 100, "word"))
    assert [one["kind"] for one in check(path, None, 100)["findings"]] == ["too_long"]
    write_tiny_tokenizer(tmp_path / "model")
    long = check(path, tmp_path / "model", 100)
    assert long["findings"][0]["message"].startswith(
        "127 tokens, 100 allowed. A cut on the right takes the whole answer"
    )
    assert check(path, tmp_path / "model", 200)["findings"] == []
    assert (long["statistics"]["tokens"], long["statistics"]["targets"]) == (127, 3)


def test_a_model_is_named_by_its_folder_or_as_in_a_job(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert model_folder(None, settings) is None
    assert model_folder(str(tmp_path), settings) == tmp_path
    assert (model_folder("tiny-qwen3-vl", settings) or tmp_path).name == "tiny-qwen3-vl"
    with pytest.raises(WrongInput, match="model: "):
        model_folder("no/such", settings)


def test_what_validates_must_not_be_trained_on(tmp_path: Path) -> None:
    train = written(tmp_path / "train.jsonl", record("first", "a"), record("shared", "b"))
    path = written(tmp_path / "data.jsonl", record("shared", "c"), record("own", "d"))
    found = check(path, train=train)["findings"]
    assert [(one["kind"], one["line"], one["other_line"]) for one in found] == [("leakage", 1, 2)]


def test_training_data_may_have_another_shape_and_must_hold_something(tmp_path: Path) -> None:
    train = written(tmp_path / "train.jsonl", record("shared", "b"))
    path = written(tmp_path / "data.jsonl", {"question": "shared", "answer": "c"})
    reading = Reading("prompt", {"prompt": "question", "response": "answer"})
    assert [one["kind"] for one in check(path, train=train, reading=reading)["findings"]] == ["leakage"]
    (tmp_path / "none.jsonl").write_bytes(b"")
    with pytest.raises(Unreadable, match="no record that can be trained"):
        check(path, train=tmp_path / "none.jsonl", reading=reading)


def test_the_summary_is_a_line_for_each_finding_and_the_counts(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(jsonl(record("q", "a")) + b"[]\n")
    first, last = summary(check(path), path)
    assert first.startswith(f"{path}:2: error wrong_shape: The line holds a list")
    assert last == "2 records, 1 valid, 1 findings"


def test_the_command_writes_its_report_and_tells_by_its_exit_status(tmp_path: Path) -> None:
    path, out = written(tmp_path / "data.jsonl", record("q", 1), []), tmp_path / "report.json"
    done = CliRunner().invoke(cli, ["check", str(path), "--json", str(out), "--data-dir", str(tmp_path)])
    assert (done.exit_code, json.loads(out.read_text())["valid"]) == (1, 1)
    assert CliRunner().invoke(cli, ["check", str(tmp_path / "none")]).exit_code == 2


def test_a_shape_and_names_of_keys_can_be_told(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl", {"question": "q", "reply": "a"}, {"question": "r", "reply": "b"})
    assert CliRunner().invoke(cli, ["check", str(path)]).exit_code == 1
    told = ["--shape", "prompt", "--fields", "prompt=question,response=reply"]
    assert CliRunner().invoke(cli, ["check", str(path), *told]).exit_code == 0
    wrong = CliRunner().invoke(cli, ["check", str(path), "--shape", "odd"])
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "shape: 'odd' is none of messages, conversations, instruction, prompt\n",
    )
