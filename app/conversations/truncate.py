"""Examples that are too long: leave them out, or cut their start or end, but never through an image."""

from collections.abc import Sequence
from typing import Literal

from app.conversations.encoded import Encoded, ImageSpan

Truncation = Literal["drop", "left", "right"]


def truncate(encoded: Encoded, max_length: int, mode: Truncation) -> Encoded | None:
    """The example within `max_length` tokens, or None where it has to be left out."""
    spans = [(image.start, image.end) for image in encoded.images]
    window = whole_window(len(encoded.ids), spans, max_length, mode)
    if window is None:
        return None
    start, end = window
    kept = [image for image in encoded.images if start <= image.start and image.end <= end]
    images = tuple(ImageSpan(one.image, one.grid, one.start - start, one.end - start) for one in kept)
    return Encoded(encoded.ids[start:end], encoded.target_mask[start:end], images)


def whole_window(
    num_tokens: int, images: Sequence[tuple[int, int]], max_length: int, mode: Truncation
) -> tuple[int, int] | None:
    """[start, end) of the tokens that stay; None where the whole example goes, also lest an image be cut."""
    window = kept_window(num_tokens, max_length, mode)
    if window and any(start < edge < end for start, end in images for edge in window):
        return None
    return window


def kept_window(num_tokens: int, max_length: int, mode: Truncation) -> tuple[int, int] | None:
    """[start, end) of the tokens that stay; None where the whole example goes."""
    if num_tokens <= max_length:
        return 0, num_tokens
    if mode == "drop":
        return None
    return (0, max_length) if mode == "right" else (num_tokens - max_length, num_tokens)
