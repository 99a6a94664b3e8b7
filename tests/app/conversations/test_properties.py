"""Whatever stands in a line: it is a conversation or a finding, and what is rendered is what Hugging Face renders."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.conversations.normalize import normalize
from app.conversations.part import Looker, Options, Task
from app.conversations.reader import parse
from app.conversations.records import Conversation, Rejected
from app.conversations.render import Renderer
from app.conversations.template import compile_template
from tests.app.conversations.openai_form import as_messages

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    "messages conversations instruction input output prompt completion response system history images image tools "
    "role content from value type text tool_calls function_call function name arguments".split()
)
WORDS = st.sampled_from(
    "user assistant system tool human gpt function_call observation text image <image> {} [".split()
)
# Values with the keys and words of the known shapes in wrong places.
NEARLY = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=16,
)
CONTENT = st.text(min_size=1).filter(str.strip) | st.integers() | st.dictionaries(st.text(), st.integers(), max_size=3)
TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), CONTENT), max_size=4)
TALKS = st.tuples(st.none() | CONTENT, TURNS, CONTENT, st.sampled_from(["messages", "conversations", "prompt"]))
MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def written(talk: tuple[Any, list[tuple[str, Any]], Any, str]) -> dict[str, Any]:
    """The same turns in one of the shapes."""
    system, turns, answer, shape = talk
    said = [*([("system", system)] if system is not None else []), *turns, ("assistant", answer)]
    if shape == "conversations":
        return {"conversations": [{"from": role, "value": text} for role, text in said]}
    messages = [{"role": role, "content": text} for role, text in said]
    return (
        {"messages": messages} if shape == "messages" else {"prompt": messages[:-1] or "q", "completion": messages[-1:]}
    )


def read(value: object) -> Conversation | Rejected:
    try:
        return normalize(parse(json.dumps(value).encode()))
    except Rejected as error:
        return error


@given(JSON | NEARLY)
@MANY
def test_any_value_is_a_conversation_or_is_refused_in_words(value: object) -> None:
    found = read(value)
    if isinstance(found, Rejected):
        assert found.kind and found.message
    else:
        assert normalize(as_messages(found)) == found


@given(st.lists(st.binary(max_size=40) | NEARLY.map(lambda value: json.dumps(value).encode()), max_size=6))
@MANY
def test_any_bytes_give_findings_and_no_exception(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    part = Looker(Options()).look(Task(str(path), 0, path.stat().st_size))
    errors = {finding.line for finding in part.findings if finding.severity == "error"}
    assert part.num_records == part.num_valid + len(errors)


@given(TALKS)
@MANY
def test_a_conversation_is_rendered_as_hugging_face_renders_it(renderer: Renderer, tiny_dir: Path, talk: Any) -> None:
    conversation = normalize(parse(json.dumps(written(talk)).encode()))
    template = compile_template((tiny_dir / "chat_template.jinja").read_text("utf-8"))
    assert renderer.text(conversation) == template.render(messages=as_messages(conversation)["messages"])


@given(TALKS)
@MANY
def test_what_is_trained_is_what_two_passes_over_the_text_would_train(renderer: Renderer, talk: Any) -> None:
    """The first pass renders up to an answer, the second the answer too: what came in addition is the target."""
    conversation = normalize(parse(json.dumps(written(talk)).encode()))
    encoded = renderer.encode(conversation)
    trained = [number for number, target in zip(encoded.ids, encoded.target_mask, strict=True) if target]
    wanted = []
    for place, turn in enumerate(conversation.turns):
        if turn.role == "assistant":
            before = renderer.text(Conversation(conversation.turns[:place]), add_generation_prompt=True)
            wanted.append(
                renderer.text(Conversation(conversation.turns[: place + 1])).removeprefix(before).rstrip("\n")
            )
    assert renderer.decode(trained) == "".join(wanted)
