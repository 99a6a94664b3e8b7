"""The same conversation in every shape, and what of a shape cannot be read."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.conversations.normalize import normalize
from app.conversations.records import Call, Conversation, Image, Rejected
from app.conversations.render import Renderer
from app.conversations.shapes import shape_of, turn_fields
from tests.app.conversations.openai_form import as_messages

WANTED = [("system", "be kind"), ("user", "hello"), ("assistant", "hi"), ("user", "what?"), ("assistant", "that")]
TALK: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": role, "content": text} for role, text in WANTED]},
    "conversations": {
        "conversations": [
            {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text} for role, text in WANTED
        ]
    },
    "instruction": {
        "system": "be kind",
        "history": [["hello", "hi"]],
        "instruction": "what?",
        "input": "",
        "output": "that",
    },
    "prompt": {
        "prompt": [{"role": role, "content": text} for role, text in WANTED[:-1]],
        "completion": [{"role": "assistant", "content": "that"}],
    },
}


def rejection(value: object) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        normalize(value)
    return caught.value.kind, caught.value.field


def turns_of(value: object) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in normalize(value).turns]


@pytest.mark.parametrize("shape", sorted(TALK))
def test_every_shape_is_read_into_the_same_turns(shape: str) -> None:
    assert shape_of(TALK[shape]) == shape
    assert turns_of(TALK[shape]) == WANTED


@pytest.mark.parametrize(
    ("value", "turns"),
    [
        ({"instruction": "add", "input": "1 and 2", "output": 3}, [("user", "add\n1 and 2"), ("assistant", "3")]),
        ({"instruction": "add", "input": None, "output": {"a": 1}}, [("user", "add"), ("assistant", '{"a": 1}')]),
        ({"prompt": "q", "completion": "a"}, [("user", "q"), ("assistant", "a")]),
        ({"prompt": {"a": 1}, "response": [1]}, [("user", '{"a": 1}'), ("assistant", "[1]")]),
        ({"system": "s", "prompt": "q", "response": "a"}, [("system", "s"), ("user", "q"), ("assistant", "a")]),
        ({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, None),
        ({"conversations": [{"from": "user", "value": "q"}, {"from": "chatgpt", "value": "a"}], "system": ""}, None),
    ],
)
def test_shorter_ways_are_read_as_well(value: object, turns: list[tuple[str, str]] | None) -> None:
    assert turns_of(value) == (turns or [("user", "q"), ("assistant", "a")])


def test_fields_are_paths_of_the_record_as_it_was_written() -> None:
    assert turn_fields(TALK["conversations"])[1] == "conversations[1].value"
    assert turn_fields(TALK["instruction"]) == ["system", "history[0][0]", "history[0][1]", "instruction", "output"]
    assert turn_fields(TALK["prompt"])[-1] == "completion[0].content"


HUMAN = {"from": "human", "value": "q"}


@pytest.mark.parametrize(
    ("value", "kind", "field"),
    [
        ({"conversations": [HUMAN, {"from": "bot", "value": "a"}]}, "unknown_role", "conversations[1].from"),
        ({"conversations": [HUMAN, {"from": "gpt", "value": None}]}, "null_content", "conversations[1].value"),
        ({"conversations": [HUMAN, "a"]}, "wrong_shape", "conversations[1]"),
        ({"conversations": [HUMAN]}, "no_answer", "conversations[0].from"),
        ({"conversations": []}, "wrong_shape", "conversations"),
        ({"conversations": [HUMAN, {"from": "function_call", "value": "f("}]}, "wrong_shape", "conversations[1].value"),
        ({"instruction": "q", "output": " "}, "empty_answer", "output"),
        ({"instruction": None, "output": "a"}, "null_content", "instruction"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "wrong_shape", "history"),
        ({"instruction": "q", "input": 5, "output": "a"}, "wrong_shape", "input"),
        ({"prompt": "q", "completion": None}, "null_content", "completion"),
        ({"prompt": [{"role": "bot", "content": "q"}], "response": "a"}, "unknown_role", "prompt[0].role"),
        ({"prompt": "<image>", "response": "a", "image": ["x", "y"]}, "placeholder_mismatch", "image"),
        ({"prompt": "<image>", "response": "a", "images": []}, "placeholder_mismatch", "images"),
        ({"prompt": "q", "response": "<image>", "image": "1.png"}, "wrong_shape", "response"),
        ({**TALK["conversations"], "video": "1.mp4"}, "wrong_shape", "video"),
        ({**TALK["messages"], "tools": "["}, "wrong_shape", "tools"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_field(value: object, kind: str, field: str) -> None:
    assert rejection(value) == (kind, field)


def test_images_beside_the_turns_take_the_places_in_the_texts(data_uri: Callable[..., str]) -> None:
    wide, high = data_uri(64, 32), data_uri(32, 64)
    turns = [{"from": "human", "value": "<image>\nand <image>?"}, {"from": "gpt", "value": "a"}]
    content = normalize({"conversations": turns, "image": [wide, high]}).turns[0].content
    assert [one.width if isinstance(one, Image) else one.text for one in content] == [64, "\nand ", 32, "?"]
    items = [{"type": "image"}, {"type": "text", "text": "what?"}]
    talk = {"messages": [{"role": "user", "content": items}, {"role": "assistant", "content": "a"}]}
    assert len(normalize({**talk, "images": [wide]}).images) == 1


def test_a_place_for_an_image_is_plain_text_where_a_record_has_no_images() -> None:
    assert turns_of({"prompt": "the tag <image>", "response": "a"})[0] == ("user", "the tag <image>")
    turns = [{"role": "user", "content": "the tag <image>"}, {"role": "assistant", "content": "a"}]
    assert turns_of({"messages": turns})[0] == ("user", "the tag <image>")
    answered = [HUMAN, {"from": "gpt", "value": "Write <image>."}]
    assert turns_of({"conversations": answered})[1] == ("assistant", "Write <image>.")


@pytest.mark.parametrize("beside", [{}, {"id": 1}, {"image": None}])
def test_a_place_without_an_image_is_named_where_images_are_written_as_places(beside: dict[str, object]) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a"}]
    assert rejection({"conversations": turns, **beside}) == ("placeholder_mismatch", "conversations[0].value")


def test_a_place_without_an_image_is_named_where_the_list_of_images_is_null() -> None:
    assert rejection({"prompt": "<image>?", "response": "a", "images": None}) == ("placeholder_mismatch", "prompt")


CALL = {"name": "add", "arguments": {"a": 1, "b": "zwei"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
OPENAI: dict[str, Any] = {
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function", "function": CALL}]},
        {"role": "tool", "tool_call_id": "x", "content": 3},
        {"role": "assistant", "content": "It is 3."},
    ],
}
SHAREGPT = {
    "tools": json.dumps([TOOL]),
    "conversations": [
        {"from": "human", "value": "1 + 2?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "It is 3."},
    ],
}


def test_calls_of_tools_are_the_same_in_both_shapes() -> None:
    assert normalize(OPENAI) == normalize(SHAREGPT)
    assert normalize(OPENAI).turns[1].calls == (Call("add", '{"a": 1, "b": "zwei"}'),)


def test_calls_are_rendered_as_the_template_does_and_are_trained(renderer: Renderer) -> None:
    encoded = renderer.encode(normalize(OPENAI))
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "zwei"}}\n</tool_call>'
    trained = [number for number, target in zip(encoded.ids, encoded.target_mask, strict=True) if target]
    assert renderer.decode(trained) == f"{call}<|im_end|>It is 3.<|im_end|>"
    text = renderer.text(normalize(OPENAI))
    assert '"parameters": {"type": "object"}' in text and "<tool_response>\n3\n</tool_response>" in text


def test_a_template_that_drops_calls_is_refused(renderer: Renderer) -> None:
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\nx<|im_end|>\n{% endfor %}"
    deaf = Renderer(renderer.tokenizer, plain, renderer.image_rules)
    with pytest.raises(Rejected, match="drops the tools"):
        deaf.encode(normalize(OPENAI))


@pytest.mark.parametrize("value", [*TALK.values(), OPENAI], ids=[*TALK, "tools"])
def test_the_openai_form_of_a_conversation_normalizes_to_itself(value: object) -> None:
    conversation: Conversation = normalize(value)
    assert normalize(as_messages(conversation)) == conversation


def test_one_function_call_of_an_assistant_is_a_call_of_a_tool() -> None:
    one = {"role": "assistant", "content": None, "tool_calls": None, "function_call": CALL}
    assert normalize({"messages": [OPENAI["messages"][0], one]}).turns[1].calls == normalize(OPENAI).turns[1].calls


@pytest.mark.parametrize("key", ["tool_calls", "function_call"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_calls_that_no_assistant_makes_are_refused_and_empty_ones_lose_nothing(key: str, place: int) -> None:
    turns: list[dict[str, Any]] = [{"role": "system", "content": "s"}, *OPENAI["messages"]]
    turns[place] = turns[place] | {key: [{"function": CALL}]}
    assert rejection({"messages": turns}) == ("wrong_shape", f"messages[{place}].{key}")
    no_calls: Any
    for no_calls in (None, [], {}, ""):
        turns[place] = turns[place] | {key: no_calls}
        assert len(normalize({"messages": turns}).turns) == 5


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        ({"from": "function_call", "value": json.dumps(CALL), "tool_calls": [CALL]}, "conversations[1].tool_calls"),
        ({"from": "gpt", "value": "", "tool_calls": [CALL], "function_call": CALL}, "conversations[1].function_call"),
        ({"from": "gpt", "value": "", "function_call": {"name": 1}}, "conversations[1].function_call"),
        ({"from": "gpt", "value": "", "tool_calls": [CALL, {}]}, "conversations[1].tool_calls[1]"),
        ({"from": "gpt", "value": "", "tool_calls": {"name": "add"}}, "conversations[1].tool_calls"),
    ],
)
def test_calls_of_which_only_some_would_be_kept_are_refused(turn: dict[str, Any], field: str) -> None:
    assert rejection({"conversations": [HUMAN, turn]}) == ("wrong_shape", field)
