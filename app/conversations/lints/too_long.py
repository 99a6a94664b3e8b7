"""Records over `max_length` tokens, with what a cut would take; and those of which no target is left."""

from collections.abc import Iterator, Sequence

from app.conversations.encoded import Encoded
from app.conversations.findings import Finding
from app.conversations.images import ImageRules
from app.conversations.lints.kinds import CHARACTERS_PER_TOKEN
from app.conversations.lints.record import Record
from app.conversations.truncate import Truncation, kept_window

IMAGES = ImageRules()


def find_by_characters(record: Record, max_length: int) -> Iterator[Finding]:
    """Without a model's tokenizer: so many characters count as a token."""
    tokens = [-(-len(text) // CHARACTERS_PER_TOKEN) for text in record.texts]
    images = sum(IMAGES.num_tokens(image.width, image.height) for image in record.conversation.images)
    total = sum(tokens) + images
    if total <= max_length:
        return
    left = max(0, max_length - (total - tokens[-1]))
    lost = "the whole answer" if not left else f"{1 - left / max(1, tokens[-1]):.0%} of the answer"
    yield record.finding("too_long", _longest(tokens), f"About {total:,} tokens, {_cut(lost, max_length)}")


def find_by_tokens(record: Record, encoded: Encoded, max_length: int, mode: Truncation) -> Iterator[Finding]:
    """With the tokens that training will see."""
    last = len(record.texts) - 1
    if not encoded.num_targets:
        yield record.finding("no_target", last, "The chat template leaves nothing of the answers to train on.")
    if len(encoded.ids) <= max_length:
        return
    place = _longest([len(text) for text in record.texts])
    yield record.finding(
        "too_long", place, f"{len(encoded.ids):,} tokens, {_cut(_lost(encoded, max_length), max_length)}"
    )
    window = kept_window(len(encoded.ids), max_length, mode)
    if window and encoded.num_targets and not any(encoded.target_mask[slice(*window)]):
        yield record.finding("no_target", last, "After the cut no part of an answer is left.")


def _lost(encoded: Encoded, max_length: int) -> str:
    cut = sum(encoded.target_mask[max_length:])
    images = sum(image.end > max_length for image in encoded.images)
    targets = (
        "the whole answer" if cut == encoded.num_targets else f"{cut / max(1, encoded.num_targets):.0%} of the answer"
    )
    return f"{targets} and {images} of {len(encoded.images)} images" if images else targets


def _cut(lost: str, max_length: int) -> str:
    return f"{max_length:,} allowed. A cut on the right takes {lost}, one on the left the start of the conversation."


def _longest(sizes: Sequence[int]) -> int:
    return max(range(len(sizes)), key=sizes.__getitem__)
