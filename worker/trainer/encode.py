"""A dataset file to examples, through the same code that checked the upload and drew the token preview.

The way of a line:

    line of JSONL -> normalize -> system prompt in front -> ids and target mask -> truncation -> Example
    left out and counted: lines in error, too long ones (truncation "drop"), ones without a target
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from app.conversations.encoded import Encoded
from app.conversations.normalize import with_system_prompt
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation, Rejected
from app.conversations.render import Renderer
from app.conversations.truncate import truncate
from app.schemas import TrainingConfig
from worker.trainer.images import Example

BATCH = 256


@dataclass
class Tokenized:
    """One entry a valid record, in file order: its example, or None where it was left out."""

    examples: list[Example | None] = field(default_factory=list)
    num_injected: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    def reject(self, line: int, reason: Rejected) -> None:
        self.left_out["in error"] += 1
        self.first_error = self.first_error or f"line {line}: {reason.message}"


def tokenize(path: Path, renderer: Renderer, config: TrainingConfig, on_batch: Callable[[int], None]) -> Tokenized:
    """Reads the whole file. `on_batch` gets the number of valid records so far and may raise to stop."""
    found = Tokenized()
    batch: list[tuple[int, Conversation]] = []
    for number, conversation in _conversations(path, config.system_prompt, found):
        batch.append((number, conversation))
        if len(batch) == BATCH:
            _encode(batch, renderer, config, found)
            on_batch(len(found.examples))
            batch = []
    if batch:
        _encode(batch, renderer, config, found)
    on_batch(len(found.examples))
    return found


def _conversations(path: Path, system_prompt: str, found: Tokenized) -> Iterator[tuple[int, Conversation]]:
    for line, conversation in read_conversations(path):
        if isinstance(conversation, Rejected):
            found.reject(line.number, conversation)
            continue
        conversation, injected = with_system_prompt(conversation, system_prompt)
        found.num_injected += injected
        yield line.number, conversation


def _encode(
    batch: list[tuple[int, Conversation]], renderer: Renderer, config: TrainingConfig, found: Tokenized
) -> None:
    for (number, _), one in zip(batch, _encode_all(batch, renderer, config), strict=True):
        if isinstance(one, Rejected):
            found.reject(number, one)
            found.examples.append(None)
            continue
        cut = truncate(one, config.max_length, config.truncation)
        example = None if cut is None else to_example(number, cut)
        if cut is None:
            found.left_out[f"longer than {config.max_length:,} tokens"] += 1
        elif example is None:
            found.left_out["without an answer to learn"] += 1
        found.examples.append(example)


def _encode_all(
    batch: list[tuple[int, Conversation]], renderer: Renderer, config: TrainingConfig
) -> Sequence[Encoded | Rejected]:
    """In one go; one by one only where the chat template refuses a conversation among them."""
    conversations = [conversation for _, conversation in batch]
    try:
        return renderer.encode_many(conversations, config.train_on, config.min_pixels, config.max_pixels)
    except Rejected as reason:
        if len(batch) == 1:
            return [reason]
        return [one for pair in batch for one in _encode_all([pair], renderer, config)]


def to_example(line: int, encoded: Encoded) -> Example | None:
    """The example as tensors; None if it has no target."""
    ids = torch.tensor(array("i", encoded.ids), dtype=torch.int32)
    targets = torch.tensor(encoded.target_mask, dtype=torch.bool)
    targets[:1] = False
    if not targets.any():
        return None
    images = tuple(one.image.data for one in encoded.images)
    return Example(line, ids, targets, images, tuple(one.grid for one in encoded.images))
