"""Each lint on records that have its fault, and on ones that only look like it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from app.conversations.findings import Finding
from app.conversations.inspection import inspect
from app.conversations.lints import duplicate_key, odd_image
from app.conversations.lints.kinds import KINDS
from app.conversations.lints.language_of import LANGUAGES, language
from app.conversations.lints.local import LINTS
from app.conversations.lints.repairs import REPAIRS
from app.conversations.lints.whole import LINTS as WHOLE
from app.conversations.part import Options
from tests.factories import jsonl, record

AWS = "AKIA" + "IOSFODNN7ABCDEFG"


def found(folder: Path, *records: Any, options: Options | None = None) -> list[Finding]:
    path = folder / "data.jsonl"
    path.write_bytes(jsonl(*records))
    with inspect(path, options or Options()) as seen:
        return list(seen.findings())


def kinds(findings: Iterable[Finding]) -> list[tuple[str, int]]:
    return [(finding.kind, finding.line) for finding in findings]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        *(("bare_count", answer) for answer in (3, -1.5, "42", " 1,024\n", "1e6", "-12,345,678")),
        *(("mojibake", answer) for answer in ("in ZÃ¼rich", "itâ€™s", {"city": "SÃ£o Paulo"}, "Ð¿Ñ€Ð¸Ð²ÐµÑ‚")),
        *(("think_leak", answer) for answer in ("<think>\nso 3", "so</think>3", "<think>a<think>b</think>c")),
        ("secret", f"use {AWS} here"),
        ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMII"),
        ("secret", "ghp_" + "a1B2" * 9),
        ("secret", "postgres://me:hunter2@db.internal/x"),
        *(("personal_data", answer) for answer in ("write to ada@lovelace.dev", "+49 30 1234567", "(212) 555-0147")),
        *(
            ("refusal", answer)
            for answer in ("I'm sorry, but no.", "I cannot help with that.", "Es tut mir leid, nein.")
        ),
        *(("boilerplate", answer) for answer in ("As an AI language model, I like it.", "Blue. I hope this helps!")),
    ],
)
def test_an_answer_with_the_fault_is_found(tmp_path: Path, kind: str, answer: Any) -> None:
    one = found(tmp_path, record("q", "fine"), record("p", answer))
    assert kinds(one) == [(kind, 2)]
    assert (one[0].field, one[0].severity) == ("messages[1].content", KINDS[kind].severity)
    assert one[0].excerpt and one[0].message


@pytest.mark.parametrize(
    "answer",
    [
        *("3 apples", "v1.2.3", "2025-03-04", "1, 2, 3"),
        *("1,85", "1,2,3", "1,,2", "12,34", "1234,567", "0,123", "007", "1_000", "+5", ".5", "5.", "\u0663"),
        *("Zürich, São Paulo, Kraków", "«né»", "naïve", "日本語", "привет", "ÀÉ", "5 € – „so“"),
        *("<think>\nso\n</think>\n\n3", "the tag &lt;think>"),
        *("awsome AWS", "https://user@host.example/a:b", "eyJust", "tokens like sk-1234", "AKIA"),
        *(
            "me@example.com",
            "@decorator",
            "3 + 12345678",
            "the id 1234567890123",
            "2025-01-02 100-200",
            "git@host.example:a/b",
        ),
        *("I can help with that.", "The AI said so.", '{"note": "I am sorry"}'),
    ],
)
def test_an_answer_that_only_looks_like_it_is_none(tmp_path: Path, answer: str) -> None:
    assert found(tmp_path, record("q", answer)) == []


def test_escaped_letters_are_looked_at_as_well(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(record("q", "ZÃ¼rich"), ensure_ascii=True))
    with inspect(path, Options()) as seen:
        assert kinds(seen.findings()) == [("mojibake", 1)]


def test_the_same_again_in_other_json_is_a_duplicate_of_the_first(tmp_path: Path) -> None:
    rows = [record("q", {"a": 1}), record("other", "b"), record("q", '{"a": 1}'), record("q", {"a": 1})]
    both = found(tmp_path, *rows)
    assert [(one.kind, one.line, one.other_line) for one in both] == [
        ("exact_duplicate", 3, 1),
        ("exact_duplicate", 4, 1),
    ]


def test_another_answer_to_the_same_question_contradicts_but_white_space_does_not(tmp_path: Path) -> None:
    first = found(tmp_path, record("q", "a b"), record("q", "c"), record("q", "a  b"))
    assert [(one.kind, one.line, one.other_line) for one in first] == [("contradiction", 2, 1)]


LONG = " ".join(f"word{n} of the {n * 7} long question" for n in range(20))


def test_a_few_changed_characters_make_a_near_duplicate(tmp_path: Path) -> None:
    near = found(tmp_path, record(LONG, "yes"), record("other", "no"), record(LONG.replace("word3", "w0rd3"), "yes"))
    assert [(one.kind, one.line, one.other_line) for one in near] == [("near_duplicate", 3, 1)]


def test_another_picture_makes_no_near_duplicate(tmp_path: Path, data_uri: Callable[..., str]) -> None:
    pictures = [data_uri(64, 32 + 8 * number) for number in range(3)]
    rows = [record(f"{LONG} <image> {number}", "yes") | {"images": [uri]} for number, uri in enumerate(pictures)]
    assert found(tmp_path, *rows) == []
    assert kinds(found(tmp_path, *rows, record(f"{LONG} <image> 9", "yes") | {"images": pictures[:1]})) == [
        ("near_duplicate", 4)
    ]


def test_other_tools_or_another_weight_make_another_example(tmp_path: Path) -> None:
    one, two = ({"type": "function", "function": {"name": name}} for name in ("search", "send"))
    rows = [record("q", "a") | {"tools": [one]}, record("q", "a") | {"tools": [two]}, record("q", "a")]
    assert found(tmp_path, *rows, record("q", "b") | {"tools": []}) != []
    assert found(tmp_path, *rows) == []
    turns = [*record("p", "x")["messages"], *record("q", "a")["messages"]]
    read = [turns[0], turns[1] | {"weight": 0}, *turns[2:]]
    assert found(tmp_path, {"messages": turns}, {"messages": read}) == []
    assert kinds(found(tmp_path, {"messages": read}, {"messages": read})) == [("exact_duplicate", 2)]


def test_another_answer_to_nearly_the_same_question_is_no_near_duplicate(tmp_path: Path) -> None:
    assert found(tmp_path, record(LONG, "yes"), record(LONG.replace("word3", "w0rd3"), "no")) == []


def test_a_frame_around_all_questions_does_not_make_them_alike(tmp_path: Path) -> None:
    texts = [" ".join(f"{letter}{n}" for n in range(25)) for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert found(tmp_path, *[record(f"{LONG}\n{text}", "yes" if n % 5 else "no") for n, text in enumerate(texts)]) == [
        one
        for one in found(
            tmp_path, *[record(f"{LONG}\n{text}", "yes" if n % 5 else "no") for n, text in enumerate(texts)]
        )
        if one.kind == "dominant_answer"
    ]


def test_texts_without_spaces_are_compared_by_characters(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + 7 * n) for n in range(300))
    near = found(tmp_path, record(text, "是"), record(text[:150] + "错" + text[151:], "是"))
    assert [(one.kind, one.other_line) for one in near] == [("near_duplicate", 1)]


def test_cut_json_is_broken_where_the_others_are_json(tmp_path: Path) -> None:
    good = [record(f"q{n}", {"n": n}) for n in range(9)]
    assert kinds(found(tmp_path, *good, record("x", '{"n": [1, 2'))) == [("broken_json", 10)]
    assert found(tmp_path, record("x", '{"n": [1, 2'), record("y", "text"), record("z", "more")) == []
    assert found(tmp_path, *good, record("x", '```json\n{"n": 1}\n```')) == []


def test_a_plain_text_is_broken_only_where_nearly_all_are_json(tmp_path: Path) -> None:
    good = [record(f"q{n}", {"n": n}) for n in range(30)]
    assert kinds(found(tmp_path, *good, record("x", "none"))) == [("broken_json", 31)]
    assert found(tmp_path, *good[:9], record("x", "none")) == []


def test_a_stranger_among_languages_and_lengths_is_noted(tmp_path: Path) -> None:
    rows = [record(f"What is the name of this one and that one, {n}?", "It is the one.") for n in range(30)]
    rows = [record(one["messages"][0]["content"], f"It is the one of {n}.") for n, one in enumerate(rows)]
    german = record("Wie ist das und was?", "Das ist nicht der Name, und die anderen sind auch nicht mit dabei.")
    huge = record("What is it, and why?", "It is the one that is in the box. " * 60)
    assert kinds(found(tmp_path, *rows, german, huge)) == [("language_outlier", 31), ("length_outlier", 32)]


def test_a_system_prompt_unlike_the_others_is_noted(tmp_path: Path) -> None:
    def row(number: int, *system: str) -> dict[str, Any]:
        turns = record(f"q{number}", f"a{number}")["messages"]
        return {"messages": [*({"role": "system", "content": one} for one in system), *turns]}

    assert kinds(found(tmp_path, row(1, "s"), row(2, "s"), row(3, "t"), row(4, "s"), row(5))) == [
        ("system_prompt_differs", 3),
        ("system_prompt_differs", 5),
    ]
    assert kinds(found(tmp_path, row(1, "s"), row(2, "t"), row(3, "u"))) == [("system_prompt_differs", 1)]


def test_an_answer_that_many_share_is_noted_once(tmp_path: Path) -> None:
    rows = [record(f"q{n}", "yes" if n % 2 else f"no {n}") for n in range(30)]
    assert kinds(found(tmp_path, *rows)) == [("dominant_answer", 2)]


def test_turns_out_of_order_are_noted(tmp_path: Path) -> None:
    turns = [{"role": role, "content": role} for role in ("user", "user", "assistant")]
    odd = found(tmp_path, {"messages": turns}, {"messages": turns[2:]})
    assert [(one.kind, one.line, one.field) for one in odd] == [
        ("role_order", 1, "messages[1].content"),
        ("role_order", 2, "messages[0].content"),
    ]


def test_what_is_odd_about_the_file_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + jsonl(record("q", "a"), record("p", "b")).replace(b"\n", b"\r\n\r\n"))
    with inspect(path, Options()) as seen:
        assert kinds(seen.findings()) == [("byte_order_mark", 1), ("windows_line_ends", 1), ("blank_line", 2)]


def test_a_key_that_stands_twice_is_noted_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    turns = '[{"role": "user", "content": "a \\"b\\": c"}, {"role": "assistant", "content": "d"}]'
    line = f'{{"messages": [], "messages": {turns}}}'
    path.write_text(line)
    with inspect(path, Options()) as seen:
        (one,) = seen.findings()
    assert (one.kind, one.message) == (
        "duplicate_key",
        "The key `messages` stands twice in one object, the last time at column 18.",
    )


@pytest.mark.parametrize("colon", [": ", " : ", "\t:", "  :"])
def test_a_blank_before_the_colon_hides_no_key(colon: str) -> None:
    line = '{"a": 1, "b": "x \\"y\\" : z", "a": 2}'.replace('"a": ', f'"a"{colon}')
    assert [one.field for one in duplicate_key.find(1, line.encode(), json.loads(line))] == ["a"]
    slash = line.replace('"a"', r'"a\\"')
    assert [one.field for one in duplicate_key.find(1, slash.encode(), json.loads(slash))] == ["a\\"]
    single = line.replace('"b"', '"c"', 1).replace('"a"', '"d"', 1)
    assert not list(duplicate_key.find(1, single.encode(), json.loads(single)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Was ist das und wie wird es mit dem anderen?", "de"),
        ("What is the name of this and that?", "en"),
        ("Quel est le nom de la ville dans ce pays ?", "fr"),
        ("これは何ですか", "ja"),
        ("这是什么问题", "zh"),
        ("Что это такое?", "ru"),
        ("Що це таке і як його звати її", "uk"),
        ("12 + 30 = 42", ""),
    ],
)
def test_languages_are_told_apart(text: str, name: str) -> None:
    assert LANGUAGES[language(text)] == name


@pytest.mark.parametrize(
    ("kind", "broken", "mended"),
    [
        ("bare_count", 3, {"count": 3}),
        ("bare_count", " 1,024", '{"count": 1024}'),
        ("bare_count", "-1,234,567\n", '{"count": -1234567}'),
        *(("bare_count", one, f'{{"count": {one}}}') for one in ("1e400", "0.12345678901234567890", "2.50", "-0")),
        ("mojibake", "in ZÃ¼rich", "in Zürich"),
        ("think_leak", '<think>\nso. {"a": 1}', '<think>\nso.\n</think>\n\n{"a": 1}'),
        ("think_leak", "<think>\nso\n\nBlue.", "<think>\nso\n</think>\n\nBlue."),
        ("think_leak", "<think>all of it", "all of it"),
        ("think_leak", "so</think>3", "<think>\nso</think>3"),
        ("secret", f"use {AWS} here", "use [removed] here"),
        ("personal_data", "ask ada@lovelace.dev or +49 30 1234567", "ask [removed] or [removed]"),
        ("exact_duplicate", "a", None),
    ],
)
def test_what_was_mended_is_not_found_again(tmp_path: Path, kind: str, broken: Any, mended: Any) -> None:
    value = REPAIRS[kind](record("q", broken), "messages[1].content")
    assert value == (None if mended is None else record("q", mended))
    assert value is None or found(tmp_path, value) == []


def test_text_items_are_mended_one_by_one() -> None:
    items = [{"type": "text", "text": "ZÃ¼rich"}, {"type": "text", "text": "Bern"}]
    mended = REPAIRS["mojibake"](record("q", items), "messages[1].content")
    assert [item["text"] for item in mended["messages"][1]["content"]] == ["Zürich", "Bern"]


def test_a_number_in_several_text_items_becomes_one_text() -> None:
    items = [{"type": "text", "text": one} for one in ("", "1,", "024")]
    mended = REPAIRS["bare_count"](record("q", items), "messages[1].content")
    assert mended["messages"][1]["content"] == [{"type": "text", "text": '{"count": 1024}'}]


def test_what_may_be_no_count_is_not_changed_by_its_repair() -> None:
    assert REPAIRS["bare_count"](record("q", "1,85"), "messages[1].content") == record("q", "1,85")


def test_every_lint_has_its_kind_and_every_repair_its_lint() -> None:
    named = ({lint.__module__.rpartition(".")[2] for lint in LINTS} - {"odd_image"}) | set(WHOLE) | set(odd_image.WORDS)
    assert named <= set(KINDS) and set(REPAIRS) <= named
