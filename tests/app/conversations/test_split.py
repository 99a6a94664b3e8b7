import json
import random
from collections import Counter
from pathlib import Path

import pytest

from app.conversations.lints import leakage
from app.conversations.questions import question_groups
from app.conversations.questions import strata as kinds_of
from app.conversations.split import choose_validation, kept_aside, num_for_validation
from tests.factories import jsonl, record


@pytest.mark.parametrize(
    ("num_valid", "num_validation"), [(0, 0), (1, 0), (19, 0), (20, 1), (100, 1), (149, 1), (1000, 10), (10_000, 100)]
)
def test_one_percent_is_kept_aside_and_one_record_from_twenty_on(num_valid: int, num_validation: int) -> None:
    wanted = num_for_validation(num_valid, 0.01)
    train, validation = choose_validation(num_valid, wanted, 42)
    assert len(validation) == wanted == num_validation
    assert sorted(train + validation) == list(range(num_valid))


def test_the_seed_fixes_the_choice() -> None:
    assert choose_validation(1000, 10, 42) == choose_validation(1000, 10, 42)
    assert choose_validation(1000, 10, 42) != choose_validation(1000, 10, 43)


def test_without_a_share_everything_is_trained() -> None:
    assert choose_validation(50, num_for_validation(50, 0), 42) == (list(range(50)), [])


def test_both_sides_keep_the_order_of_the_file() -> None:
    for indices in choose_validation(500, 150, 1):
        assert indices == sorted(indices)


def test_a_count_is_shared_out_by_size() -> None:
    assert kept_aside([100, 50, 50], 0.5, 8) == [4, 2, 2]
    assert sum(kept_aside([33, 33, 33, 1], 0.5, 10)) == 10
    assert kept_aside([3], 0.5, 99) == [2]
    assert kept_aside([100, 10], 0.1, None) == [10, 0]


def test_no_group_stands_on_both_sides() -> None:
    groups = [i % 30 for i in range(300)]
    train, validation = choose_validation(300, 50, 1, groups)
    assert len(validation) == 50 and sorted(train + validation) == list(range(300))
    assert not {groups[i] for i in train} & {groups[i] for i in validation}


def test_each_stratum_gives_its_part() -> None:
    strata = ["text"] * 60 + ["dict"] * 30 + ["list"] * 10
    train, validation = choose_validation(100, 20, 1, None, strata)
    assert Counter(strata[i] for i in validation) == {"text": 12, "dict": 6, "list": 2}
    assert sorted(train + validation) == list(range(100))


def test_a_group_of_two_strata_stays_whole() -> None:
    groups = [i // 2 for i in range(200)]
    strata = [name for i in range(50) for name in ("text", "dict", "dict", "text")]
    train, validation = choose_validation(200, 40, 1, groups, strata)
    assert len(validation) == 40
    assert not {groups[i] for i in train} & {groups[i] for i in validation}


def test_the_stratum_is_what_the_last_answer_is(tmp_path: Path) -> None:
    answers: list[object] = ["words", {"a": 1}, '{"a": 1}', [1, 2], "7", "{cut", "[" * 5000, "7.5"]
    messages = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": one}] for one in answers]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in messages))
    assert kinds_of(path) == ["text", "object", "object", "list", "number", "text", "text", "number"]


def test_a_group_that_is_too_large_stays_in_training() -> None:
    assert choose_validation(30, 5, 1, [0] * 30) == (list(range(30)), [])


def test_like_questions_have_one_number_in_whichever_file(tmp_path: Path) -> None:
    words = " ".join(f"w{n}" for n in range(99))
    files = [
        jsonl(record("Where is it?", 1), record(f"{words} one", 2), record("What?", 3)),
        jsonl(record("where  is IT?", 4), record(f"{words} two", 5), record("What else?", 6)),
    ]
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    assert question_groups(paths) == [[0, 1, 2], [0, 1, 5]]


def test_a_question_within_another_conversation_and_one_under_another_system_prompt_are_alike(tmp_path: Path) -> None:
    asked, answer = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}
    system, more = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "And then?"}
    turns = [[asked, answer], [more, answer, asked, answer], [asked, answer, more, answer], [system, asked, answer]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    assert question_groups([path]) == [[0, 1, 0, 0]]


def test_records_that_ask_nothing_are_not_alike(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(*({"messages": [{"role": "assistant", "content": f"Poem {n}"}]} for n in range(5))))
    assert question_groups([path]) == [[0, 1, 2, 3, 4]]
    assert list(leakage.find([leakage.Trained(path)], path)) == []


def test_what_all_questions_share_makes_no_leak_of_a_small_validation(tmp_path: Path) -> None:
    instruction = " ".join(f"rule{number}" for number in range(150))
    numbers = random.Random(3)
    texts = [f"{instruction} {' '.join(str(numbers.random()) for _ in range(14))}" for _ in range(60)]
    train, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    train.write_bytes(jsonl(*(record(text, "a") for text in texts[:50])))
    validation.write_bytes(jsonl(*(record(text, "a") for text in texts[50:])))
    assert list(leakage.find([leakage.Trained(train)], validation)) == []
    assert len(set(question_groups([train])[0])) == 50


def test_a_split_by_questions_has_no_leak(tmp_path: Path) -> None:
    rng = random.Random(42)
    words = [f"w{number}" for number in range(400)]
    lines = []
    for _ in range(150):
        question = rng.choices(words, k=30)
        for _ in range(3):
            changed = [*question[:-1], rng.choice(words)]
            asked = {"role": "user", "content": " ".join(changed)}
            turns = [asked, {"role": "assistant", "content": rng.choice(words)}]
            turns += [{"role": "user", "content": rng.choice(words)}, turns[1]] if rng.random() < 0.3 else []
            lines.append(json.dumps({"messages": turns}) + "\n")
    rng.shuffle(lines)
    whole = tmp_path / "whole.jsonl"
    whole.write_text("".join(lines))
    groups = question_groups([whole])[0]

    def leaks(groups: list[int] | None) -> int:
        sides = choose_validation(len(lines), 90, 7, groups)
        for name, side in zip(("train", "validation"), sides, strict=True):
            (tmp_path / name).write_text("".join(lines[i] for i in side))
        assert len(sides[1]) > 60
        return sum(1 for _ in leakage.find([leakage.Trained(tmp_path / "train")], tmp_path / "validation"))

    assert leaks(None) > 30
    assert leaks(groups) == 0
