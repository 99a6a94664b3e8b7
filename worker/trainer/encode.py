"""A dataset file to examples, through the same code that checked the upload and drew the token preview.

The way of a line:

    line of JSONL -> normalize -> system prompt in front -> ids and target mask       kept in the cache, as it is costly
    -> truncation -> Example                                                          made anew by each job
    left out and counted: lines in error, too long ones (truncation "drop"), ones without a target
"""

import gc
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from app.conversations.encoded import Encoded
from app.conversations.normalize import with_system_prompt
from app.conversations.reader import read_conversations
from app.conversations.records import Conversation, Rejected
from app.conversations.render import Renderer
from app.conversations.truncate import whole_window
from app.schemas import TrainingConfig
from worker.trainer.images import Example

# Conversations of a batch: enough for both ends of it to keep every core busy, few enough to stop at once.
BATCH, BATCH_CHARACTERS = 256, 2_000_000
# While some batches are with the tokenizer's own threads, which hold no lock of Python's, the next one is rendered.
AHEAD = 3


@dataclass(frozen=True)
class Record:
    """A valid record, encoded at its full length. `spans` are the tokens [start, end) of each image."""

    line: int
    ids: Tensor  # [T] int32
    targets: Tensor  # [T] bool
    images: tuple[bytes, ...] = ()
    grids: tuple[tuple[int, int, int], ...] = ()
    spans: tuple[tuple[int, int], ...] = ()


@dataclass
class Records:
    """One entry a valid record, in file order; None where the chat template refuses it."""

    records: list[Record | None] = field(default_factory=list)
    num_injected: int = 0
    num_rejected: int = 0
    first_error: str = ""

    def reject(self, line: int, reason: Rejected) -> None:
        self.num_rejected += 1
        self.first_error = self.first_error or f"line {line}: {reason.message}"


@dataclass
class Tokenized:
    """One entry a valid record, in file order: its example, or None where it was left out."""

    examples: list[Example | None]
    num_injected: int
    left_out: Counter[str]
    num_truncated: int
    first_error: str


Batch = list[tuple[int, Conversation]]


def tokenize(path: Path, renderer: Renderer, config: TrainingConfig, on_batch: Callable[[int], None]) -> Tokenized:
    """Reads the whole file. `on_batch` gets the number of valid records so far and may raise to stop."""
    return fit(encode_file(path, renderer, config, on_batch), config)


def encode_file(path: Path, renderer: Renderer, config: TrainingConfig, on_batch: Callable[[int], None]) -> Records:
    """The same records whatever `max_length` and `truncation` are."""
    found = Records()
    waiting: deque[tuple[Batch, Future[list[Record | Rejected]]]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool, _no_collector():
        for batch in _batches(_conversations(path, config.system_prompt, found)):
            waiting.append((batch, pool.submit(_encode, batch, renderer, config)))
            if len(waiting) > AHEAD:
                _take(*waiting.popleft(), found)
                on_batch(len(found.records))
        while waiting:
            _take(*waiting.popleft(), found)
            on_batch(len(found.records))
    on_batch(len(found.records))
    return found


@contextmanager
def _no_collector() -> Iterator[None]:
    """All that is made here is kept and none of it is a cycle; looking through it again and again costs a tenth."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _conversations(path: Path, system_prompt: str, found: Records) -> Iterator[tuple[int, Conversation]]:
    for line, conversation in read_conversations(path):
        if isinstance(conversation, Rejected):
            found.reject(line.number, conversation)
            continue
        conversation, injected = with_system_prompt(conversation, system_prompt)
        found.num_injected += injected
        yield line.number, conversation


def _batches(conversations: Iterator[tuple[int, Conversation]]) -> Iterator[Batch]:
    batch: Batch = []
    characters = 0
    for number, conversation in conversations:
        batch.append((number, conversation))
        characters += sum(len(turn.text) for turn in conversation.turns)
        if len(batch) == BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _take(batch: Batch, encoded: Future[list[Record | Rejected]], found: Records) -> None:
    for (number, _), one in zip(batch, encoded.result(), strict=True):
        if isinstance(one, Rejected):
            found.reject(number, one)
        found.records.append(one if isinstance(one, Record) else None)


def _encode(batch: Batch, renderer: Renderer, config: TrainingConfig) -> list[Record | Rejected]:
    return [
        one if isinstance(one, Rejected) else to_record(number, one)
        for (number, _), one in zip(batch, _encode_all(batch, renderer, config), strict=True)
    ]


def _encode_all(batch: Batch, renderer: Renderer, config: TrainingConfig) -> Sequence[Encoded | Rejected]:
    """In one go; one by one only where the chat template refuses a conversation among them."""
    conversations = [conversation for _, conversation in batch]
    try:
        return renderer.encode_many(conversations, config.train_on, config.min_pixels, config.max_pixels)
    except Rejected as reason:
        if len(batch) == 1:
            return [reason]
        return [one for pair in batch for one in _encode_all([pair], renderer, config)]


def to_record(line: int, encoded: Encoded) -> Record:
    """Through array and bytearray: torch takes hundreds of nanoseconds for each number of a list ("I" half of "i")."""
    ids = torch.frombuffer(array("I", encoded.ids), dtype=torch.int32)
    targets = torch.frombuffer(bytearray(encoded.target_mask), dtype=torch.bool)
    images = encoded.images
    return Record(
        line,
        ids,
        targets,
        tuple(one.image.data for one in images),
        tuple(one.grid for one in images),
        tuple((one.start, one.end) for one in images),
    )


def to_example(line: int, encoded: Encoded) -> Example | None:
    """The example in its full length; None if it has no target."""
    return cut(to_record(line, encoded), 0, len(encoded.ids))


def cut(record: Record, start: int, end: int) -> Example | None:
    """The tokens [start, end) with the images in there; None if they have no target. No copy but of a mended mask."""
    targets = record.targets[start:end]
    if targets[0]:
        targets = targets.clone()
        targets[0] = False
    if not targets.any():
        return None
    kept = [place for place, (first, last) in enumerate(record.spans) if start <= first and last <= end]
    images, grids = [record.images[i] for i in kept], [record.grids[i] for i in kept]
    return Example(record.line, record.ids[start:end], targets, tuple(images), tuple(grids))


def fit(found: Records, config: TrainingConfig) -> Tokenized:
    """Each record within `max_length`; what is left out is counted by its reason."""
    made = Tokenized([], found.num_injected, Counter(), 0, found.first_error)
    if found.num_rejected:
        made.left_out["in error"] = found.num_rejected
    for record in found.records:
        made.examples.append(None if record is None else _fit(record, config, made))
    return made


def _fit(record: Record, config: TrainingConfig, made: Tokenized) -> Example | None:
    num_tokens = len(record.ids)
    window = whole_window(num_tokens, record.spans, config.max_length, config.truncation)
    if window is None:
        made.left_out[f"longer than {config.max_length:,} tokens"] += 1
        return None
    example = cut(record, *window)
    if example is None:
        # The whole record has an answer, and what stays of it has none.
        why = "whose answer is cut off" if record.targets.any() else "without an answer to learn"
        made.left_out[why] += 1
    elif example.num_tokens < num_tokens:
        made.num_truncated += 1
    return example
