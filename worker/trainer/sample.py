"""Answers of the adapter, and of the base model without it, to a few fixed prompts."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from worker.trainer.images import Example, Vision
from worker.trainer.model import Trainee

# An answer may run a little longer than the wanted one, so that rambling shows, but never for long.
EXTRA_TOKENS, MOST_TOKENS = 16, 256
IMAGE = re.compile(r"<\|vision_start\|>(<\|image_pad\|>)+<\|vision_end\|>")


@dataclass(frozen=True)
class Prompt:
    """The last answer of an example, to be given anew from what stands before it."""

    example: Example
    start: int

    @property
    def wanted(self) -> Tensor:
        return self.example.ids[self.start :][self.example.targets[self.start :]]

    @property
    def limit(self) -> int:
        return min(len(self.wanted) + EXTRA_TOKENS, MOST_TOKENS)


@dataclass(frozen=True)
class Sample:
    prompt_id: int
    prompt: str
    answer: str
    base_answer: str
    wanted: str


class _Polling(StoppingCriteria):
    """Asks before every token whether the job shall end; the poll raises when it shall."""

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self._poll()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class Sampler:
    def __init__(
        self,
        trainee: Trainee,
        examples: list[Example],
        vision: Vision,
        decode: Callable[[list[int]], str],
        eos_id: int,
        poll: Callable[[], None],
    ) -> None:
        self._trainee, self._vision, self._decode, self._eos_id, self._poll = trainee, vision, decode, eos_id, poll
        self._prompts = [Prompt(one, one.last_answer()) for one in examples]
        self._base_answers: list[str] = []

    def samples(self) -> Iterator[Sample]:
        """The adapter's greedy answers; the base model is asked once."""
        if not self._prompts:
            return
        if not self._base_answers:
            with self._trainee.peft.disable_adapter():
                self._base_answers = self._answers()
        for number, (prompt, answer) in enumerate(zip(self._prompts, self._answers(), strict=True)):
            yield Sample(
                prompt_id=number,
                prompt=self._question(prompt.example.ids[: prompt.start].tolist()),
                answer=answer,
                base_answer=self._base_answers[number],
                wanted=self._text(prompt.wanted.tolist()),
            )

    def _question(self, ids: list[int]) -> str:
        """The turn that is answered, as a person reads it: without the template's marks, `[image]` for an image."""
        ends = [place for place, number in enumerate(ids) if number == self._eos_id]
        start = ends[-2] + 1 if len(ends) > 1 else 0
        turn = self._decode(ids[start : ends[-1]] if ends else ids).lstrip("\n")
        return IMAGE.sub("[image]", turn.partition("\n")[2])

    @torch.no_grad()
    def _answers(self) -> list[str]:
        was_training = self._trainee.peft.training
        self._trainee.peft.eval()
        try:
            made = self._generate()
        finally:
            self._trainee.peft.train(was_training)
        return [self._text(ids[: one.limit].tolist()) for one, ids in zip(self._prompts, made, strict=True)]

    def _generate(self) -> Tensor:
        """[prompts, new tokens], greedy, prompts padded on the left."""
        longest = max(one.start for one in self._prompts)
        ids = torch.full((len(self._prompts), longest), self._eos_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, one in enumerate(self._prompts):
            ids[number, longest - one.start :] = one.example.ids[: one.start]
            mask[number, longest - one.start :] = 1
        made: Tensor = self._trainee.base.generate(
            input_ids=ids.to(self._trainee.device),
            attention_mask=mask.to(self._trainee.device),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(one.limit for one in self._prompts),
                eos_token_id=self._eos_id,
                pad_token_id=self._eos_id,
            ),
            stopping_criteria=StoppingCriteriaList([_Polling(self._poll)]),
            **self._images(ids, mask),
        )
        return made[:, longest:].cpu()

    def _images(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        pixels = [self._vision.pixels(one.example) for one in self._prompts if one.example.images]
        if not pixels:
            return {}
        device = self._trainee.device
        return {
            "pixel_values": torch.cat([values for values, _ in pixels]).to(device),
            "image_grid_thw": torch.cat([grid for _, grid in pixels]).to(device),
            "mm_token_type_ids": (self._vision.positions_of_images(ids) * mask.int()).to(device),
        }

    def _text(self, ids: list[int]) -> str:
        """The answer without its end token and what follows it."""
        end = ids.index(self._eos_id) if self._eos_id in ids else len(ids)
        return self._decode(ids[:end])
