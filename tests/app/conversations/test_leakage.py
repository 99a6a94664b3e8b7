"""What a validation file asks and a training file asks too."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.conversations.lints import leakage
from app.conversations.lints.leakage import Trained
from tests.factories import jsonl, record
from tests.tiny import picture_uri

LONG = "Count the boats on the north quay before eight, the crates beside them, and the ropes that lie on the steps"
OTHER = "Say in three short words what the harbour master wrote on the door of the shed by the old crane this week"


def written(path: Path, *records: Any) -> Path:
    path.write_bytes(jsonl(*records))
    return path


def told(folder: Path, train: list[Any], own: list[Any]) -> list[tuple[int, int | None, bool]]:
    """(line, line of the training data, whether it is only nearly the same) of each finding."""
    files = written(folder / "train.jsonl", *train), written(folder / "own.jsonl", *own)
    found = list(leakage.find([Trained(files[0])], files[1]))
    assert all(one.kind == "leakage" and one.severity == "warning" for one in found)
    return [(one.line, one.other_line, " nearly " in one.message) for one in found]


@pytest.mark.parametrize(
    ("mine", "theirs", "nearly"),
    [
        ("b", "b", False),
        ("How many?", " how  MANY? ", False),
        (LONG, LONG.replace("eight", "nine"), None),
        (f"{LONG} {OTHER}", f"{LONG} {OTHER}, please", True),
        (LONG, OTHER, None),
    ],
)
def test_the_same_question_leaks_and_nearly_the_same(tmp_path: Path, mine: str, theirs: str, nearly: bool) -> None:
    found = told(tmp_path, [record("a", 1), record(theirs, 2)], [record("c", 3), record(mine, 9)])
    assert found == ([] if nearly is None else [(2, 2, nearly)])


def test_a_system_prompt_makes_no_other_question_and_an_earlier_answer_does(tmp_path: Path) -> None:
    plain = {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "1"}]}
    with_prompt = {"messages": [{"role": "system", "content": "Be brief."}, *plain["messages"]]}
    assert told(tmp_path, [plain], [with_prompt]) == [(1, 1, False)]
    again = [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "2"}]
    asked_first = {"messages": [*plain["messages"], *again]}
    assert told(tmp_path, [asked_first], [plain]) == [(1, 1, False)]
    assert told(tmp_path, [plain], [asked_first]) == []
    talks = [
        {"messages": [*with_prompt["messages"][:2], {"role": "assistant", "content": said}, *again]} for said in "xy"
    ]
    assert told(tmp_path, talks[:1], talks[1:]) == []


def pictured(seed: int) -> dict[str, Any]:
    asked = [{"type": "image", "image": picture_uri(seed)}, {"type": "text", "text": f"{LONG} {OTHER}"}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "4"}]}


def test_the_same_words_about_another_picture_are_another_question(tmp_path: Path) -> None:
    assert told(tmp_path, [pictured(1)], [pictured(2), pictured(1)]) == [(2, 1, False)]


def test_each_file_is_told_by_its_name_and_the_same_words_win(tmp_path: Path) -> None:
    near = written(tmp_path / "one.jsonl", record(f"{LONG} {OTHER}, please", 1))
    same = written(tmp_path / "two.jsonl", record("else", 1), record(f"{LONG} {OTHER}", 1))
    own = written(tmp_path / "own.jsonl", record(f"{LONG} {OTHER}", 2))
    (one,) = leakage.find([Trained(near, "one"), Trained(same, "two")], own)
    assert (one.message, one.other_line) == ("Line 2 of two has the same question.", 2)


def test_more_records_than_are_looked_for_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "ROOM", 7 * leakage.OF_RECORD)
    train = written(tmp_path / "train.jsonl", *(record(f"question {number}", 1) for number in range(40)))
    own = written(tmp_path / "own.jsonl", *(record(f"question {number}", 2) for number in range(0, 80, 2)))
    shares: list[float] = []
    found = list(leakage.find([Trained(train), Trained(train)], own, shares.append))
    assert [(one.line, one.other_line) for one in found] == [(row + 1, 2 * row + 1) for row in range(20)]
    assert all(before <= after for before, after in pairwise(shares))
    assert shares[-1] == 1
