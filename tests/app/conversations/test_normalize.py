import json
from collections.abc import Callable
from typing import Any

import pytest

from app.conversations.normalize import json_text, normalize, with_system_prompt
from app.conversations.reader import parse
from app.conversations.records import Image, Rejected, Text
from tests.app.conversations.openai_form import as_messages


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def rejection(value: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        normalize(value)
    return caught.value


def test_a_text_becomes_one_text_item() -> None:
    turns = normalize(chat(("user", "hello"), ("assistant", "hi"))).turns
    assert [(turn.role, turn.content) for turn in turns] == [("user", (Text("hello"),)), ("assistant", (Text("hi"),))]


@pytest.mark.parametrize(
    "value",
    [0, -7, 10**40, 0.1, -0.0, 1e22, True, False, {}, [], {"a": {"b": [1, None]}}, [1, 2], ["this image shows"], [{}]],
)
def test_any_other_json_value_becomes_its_json_text(value: object) -> None:
    answer = normalize(chat(("user", "q"), ("assistant", value))).turns[1].content
    assert answer == (Text(json.dumps(value, ensure_ascii=False)),)


def test_letters_beyond_ascii_stay_letters() -> None:
    conversation = normalize(chat(("user", {"stadt": "Zürich"}), ("assistant", ["Tromsø"])))
    assert [turn.text for turn in conversation.turns] == ['{"stadt": "Zürich"}', '["Tromsø"]']


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1e400", "1e400"),
        ("-1E999", "-1E999"),
        ("1e-400", "1e-400"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("12345678901234567890.5", "12345678901234567890.5"),
        ("0.10", "0.1"),
        ("1E5", "100000.0"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("9" * 5000, "9" * 5000),
        ('{"a": [1e400, 2]}', '{"a": [1e400, 2]}'),
    ],
)
def test_a_number_keeps_its_exact_value(written: str, kept: str) -> None:
    line = json.dumps(chat(("user", "q"), ("assistant", "HERE"))).replace('"HERE"', written)
    assert normalize(parse(line.encode())).answer == kept


def test_a_text_that_looks_like_a_stand_in_for_a_number_is_left_alone() -> None:
    value = parse('{"a": 1e400, "b": "\ufdd00", "\ufdd0\ufdd01": 1e-400}'.encode())
    assert json_text(value) == '{"a": 1e400, "b": "\ufdd00", "\ufdd0\ufdd01": 1e-400}'


def test_a_list_of_content_items_is_kept_as_items() -> None:
    items = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image": "ignored"}]
    conversation = normalize(chat(("user", items), ("assistant", "c")))
    assert conversation.turns[0].content == (Text("a"), Text("b"))


@pytest.mark.parametrize(
    "value",
    [
        [{"type": "text", "text": "a"}, "b"],
        [{"type": "invoice", "text": "a"}],
        [{"text": "a"}],
        [{"type": ["text"], "text": "a"}],
        [["text"]],
    ],
)
def test_a_list_with_anything_else_in_it_is_a_value(value: object) -> None:
    conversation = normalize(chat(("user", "q"), ("assistant", value)))
    assert conversation.answer == json.dumps(value)


def test_a_number_in_a_text_item_becomes_its_json_text() -> None:
    assert normalize(chat(("user", "q"), ("assistant", [{"type": "text", "text": 5}]))).answer == "5"


def test_an_image_is_decoded_and_measured(data_uri: Callable[..., str]) -> None:
    items = [{"type": "image_url", "image_url": {"url": data_uri(70, 50)}}, {"type": "text", "text": "what?"}]
    image = normalize(chat(("user", items), ("assistant", "red"))).turns[0].content[0]
    assert isinstance(image, Image)
    assert (image.width, image.height) == (70, 50)


U, A = ("user", "q"), ("assistant", "a")


@pytest.mark.parametrize(
    ("value", "kind", "field"),
    [
        ([1, 2], "wrong_shape", ""),
        (7, "wrong_shape", ""),
        (None, "wrong_shape", ""),
        ({"text": "x"}, "wrong_shape", ""),
        ({"messages": "none"}, "wrong_shape", "messages"),
        ({"messages": []}, "wrong_shape", "messages"),
        ({"messages": ["hello"]}, "wrong_shape", "messages[0]"),
        (chat(U, ("assistant", None)), "null_content", "messages[1].content"),
        ({"messages": [{"role": "user"}]}, "null_content", "messages[0].content"),
        (chat(U, ("assistant", [{"type": "text", "text": None}])), "null_content", "messages[1].content[0].text"),
        (chat(U, ("assistant", [{"type": "text"}])), "null_content", "messages[1].content[0].text"),
        (chat(U), "no_answer", "messages[0].role"),
        (chat(U, A, U), "no_answer", "messages[2].role"),
        (chat(U, ("bot", "a")), "unknown_role", "messages[1].role"),
        (chat(U, ("Assistant", "a")), "unknown_role", "messages[1].role"),
        (chat(U, ("assistant ", "a")), "unknown_role", "messages[1].role"),
        ({"messages": [{"content": "q"}]}, "unknown_role", "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "q"}]}, "unknown_role", "messages[0].role"),
        (chat(U, ("assistant", "")), "empty_answer", "messages[1].content"),
        (chat(U, ("assistant", " \n\t"), U, A), "empty_answer", "messages[1].content"),
        (chat(U, ("system", "s"), A), "system_not_first", "messages[1].role"),
        (chat(("user", [{"type": "video", "video": "x"}]), A), "wrong_shape", "messages[0].content[0]"),
        (chat(U, ("assistant", [{"type": "image", "image": "x"}])), "wrong_shape", "messages[1].content[0]"),
        (chat(("system", [{"type": "image", "image": "x"}]), U, A), "wrong_shape", "messages[0].content[0]"),
        ({**chat(U, A), "tools": ["f"]}, "wrong_shape", "tools"),
        ({"messages": [{**chat(A)["messages"][0], "weight": 0.5}]}, "wrong_shape", "messages[0].weight"),
        ({"messages": [{**chat(A)["messages"][0], "weight": [0]}]}, "wrong_shape", "messages[0].weight"),
        ({"messages": [{**chat(A)["messages"][0], "weight": 0}]}, "no_answer", "messages[0].content"),
        ({**chat(U, A), "videos": ["1.mp4"]}, "wrong_shape", "videos"),
        ({**chat(U, A), "images": ["1.jpg"]}, "placeholder_mismatch", "images"),
        ({**chat(("user", "<image>"), A), "images": ["1.jpg"]}, "image_missing", "images[0]"),
    ],
)
def test_what_a_template_would_lose_is_rejected_by_field(value: object, kind: str, field: str) -> None:
    error = rejection(value)
    assert (error.kind, error.field) == (kind, field)


def test_an_empty_list_of_tool_calls_loses_nothing() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": []}]
    assert normalize({"messages": turns}).answer == "a"


def test_the_reason_names_the_keys_seen_and_what_is_expected() -> None:
    assert rejection({"prompt": 1, "chosen": 2}).message == (
        "No known shape: the keys are `prompt`, `chosen`; expected a list `messages`."
    )


@pytest.mark.parametrize("answer", [[], {}, 0, False])
def test_empty_lists_and_objects_zero_and_false_are_answers(answer: object) -> None:
    assert normalize(chat(U, ("assistant", answer))).answer == json.dumps(answer)


def test_the_system_prompt_goes_in_front_once() -> None:
    conversation = normalize(chat(U, A))
    first, injected = with_system_prompt(conversation, "Be brief.")
    again, injected_again = with_system_prompt(first, "Be long.")
    assert (first.turns[0].text, injected, injected_again) == ("Be brief.", True, False)
    assert again is first
    assert conversation.turns[0].role == "user"


def test_an_empty_system_prompt_puts_no_turn_in_front() -> None:
    conversation = normalize(chat(U, A))
    assert with_system_prompt(conversation, "") == (conversation, False)


def test_the_weights_of_sharegpt_data_stand_on_each_turn() -> None:
    first = [{"from": "system", "value": "s", "weight": None}, {"from": "human", "value": "q", "weight": 0.0}]
    answers = [{"from": "gpt", "value": "a", "weight": 0.0}, {"from": "gpt", "value": "b", "weight": 1.0}]
    conversation = normalize({"conversations": [*first, *answers]})
    assert [turn.is_context for turn in conversation.turns] == [False, False, True, False]
    assert normalize(as_messages(conversation)) == conversation
