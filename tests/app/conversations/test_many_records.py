"""Records of every shape, thousands of them: what is rendered and trained is what Hugging Face and two passes say."""

import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from app.conversations.normalize import normalize
from app.conversations.reader import parse
from app.conversations.records import Conversation
from app.conversations.render import Renderer
from tests.app.conversations.openai_form import as_messages

WORDS = ["the", "Zürich", "東京", "count", "<think>", "</think>", "<|im_end|>", '{"a": 1}', "[1, 2]", "3.5", "\n\n"]
WORDS += ["e\u0301", "naïve", "😀", ":", "  "]
Shape = Callable[[random.Random], dict[str, Any]]


def words(drawn: random.Random) -> str:
    """With a letter in it: an answer of nothing but space is refused."""
    several = drawn.choices(WORDS, k=drawn.randrange(1, 9))
    several.insert(drawn.randrange(len(several) + 1), drawn.choice("abc"))
    return " ".join(several)


def value(drawn: random.Random) -> Any:
    """What an answer may be: text, a number, JSON."""
    return drawn.choice([words(drawn), drawn.randrange(-9, 99), {"n": drawn.random(), "text": words(drawn)}, [1, "b"]])


def rounds(drawn: random.Random) -> list[tuple[str, Any]]:
    return [(words(drawn), value(drawn)) for _ in range(drawn.randrange(1, 4))]


def picture(drawn: random.Random) -> str:
    data = io.BytesIO()
    Image.new("RGB", (drawn.randrange(28, 90), drawn.randrange(28, 90))).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def messages(drawn: random.Random) -> dict[str, Any]:
    turns: list[dict[str, Any]] = [{"role": "system", "content": words(drawn)}] if drawn.random() < 0.5 else []
    for asked, said in rounds(drawn):
        items = [{"type": "text", "text": asked}]
        turns += [{"role": "user", "content": drawn.choice([asked, items])}, {"role": "assistant", "content": said}]
    return {"messages": turns}


def with_images(drawn: random.Random) -> dict[str, Any]:
    items = [{"type": "image_url", "image_url": {"url": picture(drawn)}}, {"type": "text", "text": words(drawn)}]
    drawn.shuffle(items)
    turns = [{"role": "user", "content": items}, {"role": "assistant", "content": value(drawn)}]
    return {"messages": turns + messages(drawn)["messages"][-2:]}


def with_images_beside(drawn: random.Random) -> dict[str, Any]:
    """As Qwen3-VL and LLaMA-Factory have it: places in the texts, the images in a list."""
    count = drawn.randrange(1, 3)
    said = [{"from": "human", "value": " <image> ".join(words(drawn) for _ in range(count + 1))}]
    return {"images": [picture(drawn) for _ in range(count)], "conversations": [*said, {"from": "gpt", "value": "b"}]}


def conversations(drawn: random.Random) -> dict[str, Any]:
    turns = [
        {"from": who, "value": said} for pair in rounds(drawn) for who, said in zip(("human", "gpt"), pair, strict=True)
    ]
    if drawn.random() < 0.5:
        call = {"name": "look", "arguments": {"city": words(drawn)}}
        turns += [{"from": "human", "value": words(drawn)}, {"from": "function_call", "value": json.dumps(call)}]
        turns += [{"from": "observation", "value": words(drawn)}, {"from": "gpt", "value": words(drawn)}]
    return {"conversations": turns} | ({"system": words(drawn)} if drawn.random() < 0.5 else {})


def instruction(drawn: random.Random) -> dict[str, Any]:
    record = {"instruction": words(drawn), "output": value(drawn)}
    record |= {"input": words(drawn)} if drawn.random() < 0.5 else {}
    record |= {"history": [list(map(str, one)) for one in rounds(drawn)]} if drawn.random() < 0.5 else {}
    return record | ({"system": words(drawn)} if drawn.random() < 0.5 else {})


def completion(drawn: random.Random) -> dict[str, Any]:
    if drawn.random() < 0.5:
        return {"prompt": words(drawn), "completion": value(drawn)}
    turns = messages(drawn)["messages"]
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def response(drawn: random.Random) -> dict[str, Any]:
    return {"prompt": words(drawn), "response": value(drawn)}


def by_two_passes(renderer: Renderer, conversation: Conversation) -> str:
    """The first pass renders up to an answer, the second the answer too: what came in addition is the target."""
    wanted = []
    for place, turn in enumerate(conversation.turns):
        if turn.role == "assistant":
            before = Conversation(conversation.turns[:place], conversation.tools)
            with_it = Conversation(conversation.turns[: place + 1], conversation.tools)
            longer, shorter = renderer.text(with_it), renderer.text(before, add_generation_prompt=True)
            assert longer.startswith(shorter)
            wanted.append(longer[len(shorter) :].rstrip("\n"))
    return "".join(wanted)


@pytest.fixture(scope="module")
def peer(tiny_dir: Path) -> PreTrainedTokenizerFast:
    template = (tiny_dir / "chat_template.jinja").read_text("utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(tiny_dir / "tokenizer.json"), chat_template=template)


@pytest.mark.parametrize("count", [50, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "shape", [messages, with_images, with_images_beside, conversations, instruction, completion, response]
)
def test_text_and_mask_are_those_of_hugging_face_and_of_two_passes(
    renderer: Renderer, peer: PreTrainedTokenizerFast, shape: Shape, count: int
) -> None:
    drawn = random.Random(count)
    for _ in range(count):
        record = shape(drawn)
        conversation = normalize(parse(json.dumps(record, ensure_ascii=False).encode()))
        as_openai = as_messages(conversation)
        assert normalize(parse(json.dumps(as_openai).encode())) == conversation, record
        assert renderer.text(conversation) == peer.apply_chat_template(as_openai["messages"], tokenize=False), record
        encoded = renderer.encode(conversation)
        trained = [one for one, target in zip(encoded.ids, encoded.target_mask, strict=True) if target]
        assert renderer.decode(trained) == by_two_passes(renderer, conversation), record
