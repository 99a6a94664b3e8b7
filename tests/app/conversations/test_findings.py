from pathlib import Path

from app.conversations.findings import check_lines, excerpt


def test_a_line_in_error_has_one_finding_and_no_conversation(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"messages": [{"role": "bot", "content": null}]}\n', encoding="utf-8")
    [checked] = check_lines(path)
    assert checked.conversation is None
    assert [one.as_json() for one in checked.findings] == [
        {
            "kind": "unknown_role",
            "severity": "error",
            "line": 1,
            "field": "messages[0].role",
            "message": "The role is 'bot'; expected system, user, assistant or tool.",
            "excerpt": '{"messages": [{"role": "bot", "content": null}]}',
        }
    ]


def test_excerpts_are_short_and_hold_nothing_that_garbles_a_terminal() -> None:
    assert excerpt("a\x1b[31mb\u202ec\n\n  d\x00") == "a [31mb c d"
    assert excerpt("x" * 160) == "x" * 160
    assert excerpt("x" * 500) == "x" * 157 + "..."


def test_messages_quote_a_role_without_its_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"messages": [{"role": "b\\u001b[0m", "content": "x"}]}\n', encoding="utf-8")
    [checked] = check_lines(path)
    assert "\x1b" not in checked.findings[0].message


def test_the_excerpt_of_broken_json_shows_the_place(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": "' + "x" * 1000 + '" oops}\n', encoding="utf-8")
    [checked] = check_lines(path)
    assert "oops" in checked.findings[0].excerpt
