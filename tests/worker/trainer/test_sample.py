"""Answers to fixed prompts: the adapter's, and the base model's without it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.conversations.normalize import normalize
from app.conversations.render import Renderer
from tests.tiny import conversation, make_trainee, picture_conversation
from worker.trainer.commands import ASKS
from worker.trainer.encode import to_example
from worker.trainer.faults import Interrupted
from worker.trainer.images import Example, Vision
from worker.trainer.model import Trainee
from worker.trainer.sample import MOST_TOKENS, Prompt, Sampler


@pytest.fixture(scope="module")
def renderer(model_dir: Path) -> Renderer:
    return Renderer.load(model_dir)


def encoded(renderer: Renderer, *records: dict[str, Any]) -> list[Example]:
    made = [to_example(line, renderer.encode(normalize(one))) for line, one in enumerate(records, start=1)]
    return [one for one in made if one]


def sampler_of(
    trainee: Trainee, examples: list[Example], renderer: Renderer, vision: Vision, poll: Any = None
) -> Sampler:
    return Sampler(trainee, examples, vision, renderer.decode, renderer.eos_id, poll or (lambda: None))


@pytest.fixture
def trainee(model_dir: Path) -> Trainee:
    return make_trainee(model_dir)


def test_base_and_adapter_answer_the_same_prompt(trainee: Trainee, renderer: Renderer, vision: Vision) -> None:
    examples = encoded(renderer, conversation(1), conversation(2))
    first, second = sampler_of(trainee, examples, renderer, vision).samples()
    assert first.prompt == "Where does Ben live? (1)"
    assert second.wanted == conversation(2)["messages"][1]["content"]
    assert first.answer != first.base_answer


def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(
    trainee: Trainee, renderer: Renderer, vision: Vision
) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 40}, {"role": "assistant", "content": "ok"}]}
    examples = encoded(renderer, conversation(1), long)
    both = [one.answer for one in sampler_of(trainee, examples, renderer, vision).samples()]
    alone = [one.answer for i in (0, 1) for one in sampler_of(trainee, examples[i : i + 1], renderer, vision).samples()]
    assert both == alone


def test_answers_about_images(trainee: Trainee, renderer: Renderer, vision: Vision) -> None:
    examples = encoded(renderer, conversation(1), picture_conversation(1), picture_conversation(2, num_images=2))
    samples = list(sampler_of(trainee, examples, renderer, vision).samples())
    assert [one.prompt_id for one in samples] == [0, 1, 2]
    assert samples[2].prompt == "[image][image]What is this? (2)"
    (alone,) = sampler_of(trainee, examples[2:], renderer, vision).samples()
    assert samples[2].answer == alone.answer


def test_the_base_model_is_asked_once(trainee: Trainee, renderer: Renderer, vision: Vision) -> None:
    asked = sampler_of(trainee, encoded(renderer, conversation(1)), renderer, vision)
    (before,) = asked.samples()
    with torch.no_grad():
        trainee.base.lm_head.weight.mul_(-1)
    (after,) = asked.samples()
    assert after.base_answer == before.base_answer
    assert after.answer != before.answer


def test_answers_are_little_longer_than_wanted(renderer: Renderer) -> None:
    (short,) = encoded(renderer, conversation(1))
    prompt = Prompt(short, short.last_answer())
    assert prompt.limit == len(prompt.wanted) + 16
    many = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "word " * 500}]}
    (long,) = encoded(renderer, many)
    assert Prompt(long, long.last_answer()).limit == MOST_TOKENS


def test_a_stop_is_heard_between_two_tokens(trainee: Trainee, renderer: Renderer, vision: Vision) -> None:
    polls = iter(range(3))

    def poll() -> None:
        if next(polls, None) is None:
            raise Interrupted(ASKS["cancel"])

    with pytest.raises(Interrupted):
        list(sampler_of(trainee, encoded(renderer, conversation(1)), renderer, vision, poll).samples())


def test_training_goes_on_as_if_nothing_was_asked(trainee: Trainee, renderer: Renderer, vision: Vision) -> None:
    trainee.peft.train()
    generators = torch.get_rng_state()
    list(sampler_of(trainee, encoded(renderer, conversation(1)), renderer, vision).samples())
    assert trainee.peft.training
    assert torch.equal(torch.get_rng_state(), generators)
