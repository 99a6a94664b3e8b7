"""From a file to examples: what is a target, what is left out and counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from app.conversations.normalize import normalize
from app.conversations.render import Renderer
from app.schemas import TrainingConfig
from tests.tiny import conversation, picture_conversation, write_jsonl
from worker.trainer.commands import ASKS
from worker.trainer.encode import Tokenized, cut, to_record, tokenize
from worker.trainer.faults import Interrupted
from worker.trainer.images import Example, Vision


@pytest.fixture(scope="module")
def renderer(model_dir: Path) -> Renderer:
    return Renderer.load(model_dir)


def read(path: Path, renderer: Renderer, **settings: Any) -> Tokenized:
    return tokenize(path, renderer, TrainingConfig(**settings), lambda count: None)


def examples_of(path: Path, renderer: Renderer, **settings: Any) -> list[Example]:
    return [one for one in read(path, renderer, **settings).examples if one]


def decoded_targets(example: Example, renderer: Renderer) -> str:
    return renderer.decode(example.ids[example.targets].tolist())


def odd_answers(count: int) -> list[Any]:
    """Texts, numbers, objects, lists, line breaks, special tokens and scripts, as answers come."""
    answers: list[Any] = [
        "Yes.",
        7,
        0.25,
        True,
        {"count": 3, "ok": None},
        [1, "a"],
        "\n\nlate",
        "<|im_end|> said",
        "Größe 雪",
    ]
    return [{"n": i, "text": "word " * (i % 9)} if i % 2 else answers[i // 2 % len(answers)] for i in range(count)]


def test_targets_are_the_answer_and_its_end_token_and_nothing_else(renderer: Renderer, tmp_path: Path) -> None:
    answers = odd_answers(200)
    records = [
        {"messages": [*conversation(i)["messages"][:1], {"role": "assistant", "content": one}]}
        for i, one in enumerate(answers)
    ]
    examples = examples_of(write_jsonl(tmp_path / "d.jsonl", records), renderer)
    texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in answers]
    assert [decoded_targets(one, renderer) for one in examples] == [text + "<|im_end|>" for text in texts]


def two_answers(path: Path) -> Path:
    first, second = conversation(1)["messages"], conversation(2)["messages"]
    return write_jsonl(path / "d.jsonl", [{"messages": [*first, *second]}])


def test_every_answer_or_only_the_last_is_trained(renderer: Renderer, tmp_path: Path) -> None:
    (both,) = examples_of(two_answers(tmp_path), renderer)
    (last,) = examples_of(two_answers(tmp_path), renderer, train_on="last_answer")
    assert decoded_targets(both, renderer).count("<|im_end|>") == 2
    assert decoded_targets(last, renderer) == conversation(2)["messages"][1]["content"] + "<|im_end|>"


def test_the_last_answer_begins_where_its_prompt_ends(renderer: Renderer, tmp_path: Path) -> None:
    (both,) = examples_of(two_answers(tmp_path), renderer)
    assert renderer.decode(both.ids[: both.last_answer()].tolist()).endswith("<|im_start|>assistant\n")
    assert renderer.decode(both.ids[both.last_answer() :].tolist()).startswith('{"name": "Cleo"')


def test_what_is_left_out_is_counted_by_reason(renderer: Renderer, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}]}
    path = write_jsonl(tmp_path / "d.jsonl", [conversation(0), long, {"messages": []}, conversation(1)])
    path.write_text(path.read_text("utf-8") + "{broken\n", "utf-8")
    found = read(path, renderer, max_length=128)
    assert [one.line if one else None for one in found.examples] == [1, None, 4]
    assert found.left_out == {"in error": 2, "longer than 128 tokens": 1}
    assert found.first_error.startswith("line 3: ")


def test_a_cut_that_leaves_no_answer_leaves_the_record_out(renderer: Renderer, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}]}
    path = write_jsonl(tmp_path / "d.jsonl", [long])
    assert read(path, renderer, max_length=128, truncation="right").left_out == {"whose answer is cut off": 1}
    (cut,) = examples_of(path, renderer, max_length=128, truncation="left")
    assert (cut.num_tokens, decoded_targets(cut, renderer)) == (128, "ok<|im_end|>")


def test_the_system_prompt_is_put_where_none_is(renderer: Renderer, tmp_path: Path) -> None:
    own = {"messages": [{"role": "system", "content": "Be brief."}, *conversation(0)["messages"]]}
    found = read(write_jsonl(tmp_path / "d.jsonl", [own, conversation(1)]), renderer, system_prompt="Be kind.")
    texts = [renderer.decode(one.ids.tolist()) for one in found.examples if one]
    assert found.num_injected == 1
    assert "Be brief." in texts[0] and "Be kind." not in texts[0] and "Be kind." in texts[1]


def test_images_have_as_many_tokens_as_pixels_want(renderer: Renderer, tmp_path: Path, vision: Vision) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [picture_conversation(3, num_images=2)])
    (example,) = examples_of(path, renderer)
    pixels, grids = vision.pixels(example)
    lengths = [end - start for start, end in vision.spans(example.ids)]
    assert lengths == [int(grid.prod()) // vision.merge**2 for grid in grids]
    assert len(pixels) == int(grids.prod(dim=1).sum())


def test_pixel_limits_of_the_job_hold_for_tokens_and_pixels(
    renderer: Renderer, tmp_path: Path, model_dir: Path
) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [picture_conversation(3)])
    (example,) = examples_of(path, renderer, max_pixels=2048)
    _, grids = Vision(model_dir, max_pixels=2048).pixels(example)
    assert int(torch.prod(grids)) * 256 <= 2048


def test_tokenizing_stops_between_batches(renderer: Renderer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [conversation(i) for i in range(1200)])
    seen: list[int] = []

    def stop_at_once(count: int) -> None:
        seen.append(count)
        raise Interrupted(ASKS["cancel"])

    with pytest.raises(Interrupted):
        tokenize(path, renderer, TrainingConfig(), stop_at_once)
    assert seen == [256]


def test_a_cut_record_is_counted(renderer: Renderer, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}]}
    path = write_jsonl(tmp_path / "d.jsonl", [long, conversation(1)])
    assert read(path, renderer, max_length=128, truncation="left").num_truncated == 1


def test_examples_of_many_batches_stay_in_the_order_of_the_file(renderer: Renderer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [conversation(i) for i in range(1200)])
    examples = examples_of(path, renderer)
    assert [one.line for one in examples] == list(range(1, 1201))
    assert "(1100)" in renderer.decode(examples[1100].ids.tolist())


def test_a_cut_does_not_change_the_record_it_is_made_of(renderer: Renderer) -> None:
    record = to_record(1, renderer.encode(normalize(conversation(1))))
    before = record.targets.clone()
    inside = int(record.targets.nonzero()[0]) + 1
    example = cut(record, inside, len(record.ids))
    assert example and not example.targets[0] and record.targets.equal(before)
