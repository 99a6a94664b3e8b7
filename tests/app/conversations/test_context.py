"""Answers of weight 0 are read and not learned: the lints that judge answers pass them over."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.conversations.test_lints import LONG, found, kinds
from tests.factories import record

BAD_ANSWERS = [
    "42",
    "<think>all of it",
    "I'm sorry, but no.",
    "As an AI language model, I like it.",
    '{"n": [1, 2',
    "Das ist nicht der Name, und die anderen sind auch nicht mit dabei.",
]


def talk(*said: tuple[Any, Any, int]) -> dict[str, Any]:
    """A conversation of questions and answers, each answer with its weight."""
    turns: list[dict[str, Any]] = []
    for question, answer, weight in said:
        asked, answered = record(question, answer)["messages"]
        turns += [asked, answered | {"weight": weight}]
    return {"messages": turns}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
@pytest.mark.parametrize("weight", [0, 1])
def test_an_answer_is_judged_where_it_is_learned(tmp_path: Path, answer: str, weight: int) -> None:
    good = [record(f"q{n}", {"text": f"It is the one that is in the {n}. box"}) for n in range(30)]
    answers = [found(tmp_path, *good, talk(("p", answer, weight), ("more", {"n": 1}, 1)))]
    answers.append(found(tmp_path, *good, talk(("p", {"n": 1}, 1), ("more", answer, weight))))
    if weight:
        assert all(answers)
    else:
        assert answers == [[], []]


def test_a_last_answer_that_is_only_read_contradicts_nothing(tmp_path: Path) -> None:
    first, read = ("p", "x", 1), talk(("p", "x", 1), ("q", "a", 0))
    assert found(tmp_path, talk(first, ("q", "b", 1)), read, talk(first, ("q", "c", 0))) == []
    learned = found(tmp_path, read, talk(first, ("q", "b", 1)), talk(first, ("q", "c", 1)))
    assert [(one.kind, one.line, one.other_line) for one in learned] == [("contradiction", 3, 2)]


def test_the_last_answer_that_is_learned_contradicts_another(tmp_path: Path) -> None:
    (one,) = found(tmp_path, talk(("q", "a", 1)), talk(("q", "b", 1), ("more", "ok", 0)))
    assert (one.kind, one.line, one.field) == ("contradiction", 2, "messages[1].content")


def test_an_answer_that_many_only_read_dominates_nothing(tmp_path: Path) -> None:
    rows = [talk((f"q{n}", f"no {n}", 1), ("sure?", "yes", 0)) for n in range(30)]
    assert found(tmp_path, *rows) == []
    rows = [talk((f"q{n}", "yes" if n % 2 else f"no {n}", 1), (f"p{n}", f"a{n}", 0)) for n in range(30)]
    assert [(one.kind, one.line, one.field) for one in found(tmp_path, *rows)] == [
        ("dominant_answer", 2, "messages[1].content")
    ]


def test_records_with_another_learned_answer_are_no_near_duplicates(tmp_path: Path) -> None:
    asked = LONG, LONG.replace("word3", "w0rd3")
    rows = [talk((question, "yes", 1), ("sure?", "I am", 0)) for question in asked]
    assert kinds(found(tmp_path, *rows)) == [("near_duplicate", 2)]
    assert found(tmp_path, rows[0], talk((asked[1], "no", 1), ("sure?", "I am", 0))) == []
