"""`python -m app.count_tokens LINES MODEL OPTIONS`: the tokens of a dataset as the trainer makes them, as a JSON line.

MODEL is a folder with tokenizer and template, OPTIONS {"max_length": 2048, "system_prompt": ""}.

    {"records", "tokens": {"total", "target", "context", "image", "roles": {role: tokens}},
     "lengths": {"longest", "mean", "median", "over", "histogram": [{"from", "to", "records"}]}, "target_share"}

A role is that of the block the template puts a turn into: Qwen3-VL's shows results of tools in blocks of the user.
"""

import json
import statistics
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.encoded import Encoded
from app.conversations.normalize import with_system_prompt
from app.conversations.reader import valid_conversations
from app.conversations.records import Conversation
from app.conversations.render import Renderer

AT_ONCE = 64
NUM_BARS = 24
TURN_START = "<|im_start|>"
# The name of a role is within so many tokens of the start of its block.
ROLE_TOKENS = 6


class Options(msgspec.Struct, frozen=True):
    max_length: int = 2048
    system_prompt: str = ""


class Counts:
    """Running totals; of each record only its length is kept."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer, self._start = renderer, renderer.special_ids[TURN_START]
        self._names: dict[tuple[int, ...], str] = {}
        self.lengths = array("I")
        self.parts, self.roles = Counter[str](), Counter[str]()

    def add(self, encoded: Encoded) -> None:
        self.lengths.append(len(encoded.ids))
        num_images = sum(image.end - image.start for image in encoded.images)
        self.parts["target"] += encoded.num_targets
        self.parts["image"] += num_images
        self.parts["context"] += len(encoded.ids) - encoded.num_targets - num_images
        starts = [place for place, number in enumerate(encoded.ids) if number == self._start]
        for start, end in zip(starts, [*starts[1:], len(encoded.ids)], strict=True):
            self.roles[self._role(encoded.ids[start + 1 : start + 1 + ROLE_TOKENS])] += end - start

    def _role(self, ids: list[int]) -> str:
        key = tuple(ids)
        if key not in self._names:
            self._names[key] = self._renderer.tokenizer.decode(ids).split("\n", 1)[0].strip()
        return self._names[key]

    def as_json(self, max_length: int) -> dict[str, Any]:
        total, num_records = sum(self.lengths), len(self.lengths)
        shown = {name: self.parts[name] for name in ("target", "context", "image")}
        lengths = {
            "longest": max(self.lengths, default=0),
            "mean": round(total / max(1, num_records), 1),
            "median": statistics.median(self.lengths) if self.lengths else 0,
            "over": sum(length > max_length for length in self.lengths),
            "histogram": histogram(self.lengths),
        }
        share = round(self.parts["target"] / max(1, total), 4)
        tokens = {"total": total, **shown, "roles": dict(self.roles)}
        return {"records": num_records, "tokens": tokens, "lengths": lengths, "target_share": share}


def histogram(lengths: "array[int]") -> list[dict[str, int]]:
    """Bars of one width from 0 to the longest; the records of a bar have from <= tokens < to."""
    width = max(lengths, default=0) // NUM_BARS + 1
    counts = Counter(length // width for length in lengths)
    last = max(counts, default=-1)
    return [{"from": n * width, "to": (n + 1) * width, "records": counts[n]} for n in range(last + 1)]


def count(lines: Path, model: Path, options: Options) -> dict[str, Any]:
    renderer = Renderer.load(model)
    counts = Counts(renderer)
    waiting = (with_system_prompt(one, options.system_prompt)[0] for _, one in valid_conversations(lines))
    for batch in _batches(waiting):
        for encoded in renderer.encode_many(batch):
            counts.add(encoded)
    return counts.as_json(options.max_length)


def _batches(conversations: Iterator[Conversation]) -> Iterator[list[Conversation]]:
    while batch := list(islice(conversations, AT_ONCE)):
        yield batch


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m app.count_tokens LINES MODEL OPTIONS\n")
        return 2
    lines, model = map(Path, arguments[:2])
    sys.stdout.write(json.dumps(count(lines, model, msgspec.json.decode(arguments[2], type=Options))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
