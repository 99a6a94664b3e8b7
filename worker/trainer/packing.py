"""The examples of one optimizer step, packed into as few rows as a token budget allows.

    examples of a step    [a a a a] [b b] [c c c c c c]          no example is split, none leaves its step
    rows (budget 8)       [c c c c c c b b] [a a a a]
    position ids           0 1 2 3 4 5 0 1   0 1 2 3             each example starts anew: no attention across
    targets                labels are shifted inside an example, so none predicts its neighbour's first token

A row with images takes 4 rows of position ids: the plain ones (they say where examples start), then time, height and
width. With only the latter three, an attention mask of ones, or no position ids at all, examples would see one
another in silence.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.trainer.attention import Segments, find_segments
from worker.trainer.images import Example, Vision


@dataclass(frozen=True)
class Row:
    """T tokens of packed examples, N targets, all on one device."""

    input_ids: Tensor  # [1, T]
    position_ids: Tensor  # [1, T], or [4, 1, T] with images
    segments: Segments
    predictors: Tensor  # [N] positions whose hidden state predicts a target
    labels: Tensor  # [N]
    scale: Tensor  # [N] what one target's loss counts
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None

    @property
    def num_tokens(self) -> int:
        return self.input_ids.shape[1]


def fill_rows(lengths: list[int], budget: int) -> list[list[int]]:
    """Indices row by row: the longest first, each into the first row with room. One longer than the budget is alone."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = (row for row, left in enumerate(room) if left >= lengths[index])
        row = next(fitting, None)
        if row is None:
            rows.append([])
            room.append(budget)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def longest_row(steps: Iterable[list[Example]], budget: int) -> list[Example]:
    """The row with most tokens, of all those that the examples of the steps fill; the first of several."""
    longest: list[Example] = []
    most = 0
    for examples in steps:
        lengths = [one.num_tokens for one in examples]
        if min(sum(lengths), max(budget, *lengths)) <= most:
            continue  # none of its rows can be longer
        for members in fill_rows(lengths, budget):
            num_tokens = sum(lengths[i] for i in members)
            if num_tokens > most:
                longest, most = [examples[i] for i in members], num_tokens
    return longest


def target_scales(examples: list[Example], mean: str) -> list[float]:
    """What each target of an example counts, so that the sum over the step is its mean loss.

    `targets`: every target of the step the same; `examples`: every example the same, however long its answer.
    """
    if mean == "examples":
        return [1 / (len(examples) * one.num_targets) for one in examples]
    total = sum(one.num_targets for one in examples)
    return [1 / total] * len(examples)


def pack(examples: list[Example], scales: list[float], vision: Vision, device: torch.device) -> Row:
    """One row of the given examples, in their order."""
    predictors, labels, weights, start = [], [], [], 0
    for example, scale in zip(examples, scales, strict=True):
        found = example.targets.nonzero().squeeze(1)
        predictors.append(found - 1 + start)
        labels.append(example.ids[found].long())
        weights.append(torch.full((len(found),), scale, dtype=torch.float64))
        start += len(example.ids)
    has_images = any(example.images for example in examples)
    positions = torch.cat([position_ids(one, vision) for one in examples], dim=1)
    pixels = [vision.pixels(example) for example in examples if example.images]
    positions = positions[:, None] if has_images else positions[:1]
    return Row(
        input_ids=torch.cat([one.ids for one in examples]).long()[None].to(device),
        position_ids=positions.to(device),
        segments=find_segments(positions).to(device),
        predictors=torch.cat(predictors).to(device),
        labels=torch.cat(labels).to(device),
        scale=torch.cat(weights).to(device),
        pixel_values=torch.cat([values for values, _ in pixels]).to(device) if has_images else None,
        image_grid_thw=torch.cat([grid for _, grid in pixels]).to(device) if has_images else None,
    )


def position_ids(example: Example, vision: Vision) -> Tensor:
    """[4, T]: plain positions, then time, height and width as Qwen3-VL counts them."""
    plain = torch.arange(len(example.ids))
    if not example.images:
        return plain.expand(4, -1)
    parts, done, position = [], 0, 0
    for (start, end), (_, height, width) in zip(vision.spans(example.ids), example.grids, strict=True):
        parts.append(torch.arange(start - done).expand(3, -1) + position)
        position += start - done
        high, wide = height // vision.merge, width // vision.merge
        parts.append(_image_positions(high, wide) + position)
        position, done = position + max(high, wide), end
    parts.append(torch.arange(len(example.ids) - done).expand(3, -1) + position)
    return torch.cat([plain[None], torch.cat(parts, dim=1)])


def _image_positions(high: int, wide: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns]).reshape(3, -1)
