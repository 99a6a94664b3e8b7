"""Images inside conversations: data URIs to bytes, and how many tokens an image takes.

Only data URIs are read. A URL is never fetched and a path never opened: a dataset must not make the server reach out.
"""

import base64
import binascii
import hashlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec
import PIL.Image
from PIL import UnidentifiedImageError

from app.conversations.pixels import as_rgb
from app.conversations.records import Image, Rejected

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
MAX_RATIO = 200
ORIENTATION = 0x0112  # the EXIF tag
REMEMBERED = 65_536  # of different pictures: size and traits, some 200 bytes each
REFERENCE_KEYS = ("image", "image_url", "url", "path", "base64")


def read_image(item: dict[str, Any], field: str) -> Image:
    """The image of one content item; raises `Rejected` image_missing or image_broken."""
    source = _reference(item)
    if not source:
        raise Rejected("image_missing", "This image item holds no image.", field)
    if source[:5].lower() != "data:":
        shown = source[:80]
        raise Rejected(
            "image_missing",
            f"The image '{shown}' is not in the file. URLs are never fetched and paths never opened: "
            "put it in as a data URI (data:image/png;base64,...), "
            "or send the file in a zip or tar with its images beside it.",
            field,
            shown,
        )
    data = _decode_uri(source, field)
    looked = _look(Content(data))
    if isinstance(looked, str):
        raise Rejected("image_broken", f"The image cannot be used: {looked}.", field, source[:80])
    width, height, traits = looked
    return Image(data, source[:40], width, height, traits)


class Content:
    """The bytes of an image, told apart by their hash, so that remembering one does not keep its bytes."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        self._digest = hashlib.blake2b(data, digest_size=16).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and self._digest == other._digest

    def take(self) -> bytes:
        data, self.data = self.data, None
        assert data is not None, "looked at once"
        return data


# What decoders meet odd bytes with; a ValueError of theirs passes as it is.
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    EOFError,
    PIL.Image.DecompressionBombError,
    RuntimeError,
    SyntaxError,
    TypeError,
    struct.error,
    zlib.error,
)


@lru_cache(maxsize=REMEMBERED)
def _look(content: Content) -> tuple[int, int, tuple[str, ...]] | str:
    """(width, height, traits), or why it cannot be used; the same picture in many records is decoded once."""
    try:
        with _opened(content.take()) as picture:
            rgb, is_converted = as_rgb(picture)
            if max(rgb.size) > MAX_RATIO * min(rgb.size):
                raise ValueError(f"{rgb.width} x {rgb.height} is longer than {MAX_RATIO}:1")
            return rgb.width, rgb.height, tuple(_traits(picture, is_converted))
    except ValueError as error:
        return str(error)


def _traits(picture: PIL.Image.Image, is_converted: bool) -> Iterator[str]:
    if picture.getexif().get(ORIENTATION, 1) != 1:
        yield "image_rotated"
    if is_converted:
        yield "image_converted"
    if getattr(picture, "n_frames", 1) > 1:
        yield "image_animated"
    if picture.width * picture.height > ImageRules().max_pixels:
        yield "image_large"


def _reference(item: dict[str, Any]) -> str:
    for key in REFERENCE_KEYS:
        value = item.get(key)
        if isinstance(value, dict):
            value = value.get("url")
        if isinstance(value, str) and value:
            return value
    return ""


def _decode_uri(source: str, field: str) -> bytes:
    head, comma, body = source.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise Rejected("image_broken", "The data URI of the image is not base64.", field, source[:80])
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("image_broken", "The base64 of the image is damaged.", field, source[:80]) from None


def open_rgb(data: bytes) -> PIL.Image.Image:
    """The decoded picture in RGB, turned as its EXIF says; raises ValueError in words where that is impossible."""
    with _opened(data) as picture:
        return as_rgb(picture)[0]


@contextmanager
def _opened(data: bytes) -> Iterator[PIL.Image.Image]:
    """The picture within our limit; what goes wrong with it becomes a ValueError in words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; our own limit stands below
            with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels are more than {MAX_PIXELS:,}")
                yield picture
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except ValueError:
        raise
    except DECODER_ERRORS as error:
        raise ValueError(f"it cannot be decoded ({error})") from None


class ImageRules(msgspec.Struct, frozen=True):
    """What a model's preprocessor_config.json says about sizes, in pixels."""

    patch_size: int = 16
    merge_size: int = 2
    min_pixels: int = 65_536
    max_pixels: int = 16_777_216

    @classmethod
    def read(cls, config: dict[str, Any]) -> "ImageRules":
        size = config.get("size") or {}
        return cls(
            patch_size=config.get("patch_size", 16),
            merge_size=config.get("merge_size", 2),
            min_pixels=config.get("min_pixels") or size.get("shortest_edge") or 65_536,
            max_pixels=config.get("max_pixels") or size.get("longest_edge") or 16_777_216,
        )

    def limited(self, min_pixels: int | None, max_pixels: int | None) -> "ImageRules":
        """The same rules with the limits of a job in their place."""
        low, high = min_pixels or self.min_pixels, max_pixels or self.max_pixels
        return ImageRules(self.patch_size, self.merge_size, low, high)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels that the model sees: multiples of patch x merge, area within the limits."""
        unit = self.patch_size * self.merge_size
        wide, high = round(width / unit) * unit, round(height / unit) * unit
        if wide * high > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            wide = max(unit, math.floor(width / shrink / unit) * unit)
            high = max(unit, math.floor(height / shrink / unit) * unit)
        elif wide * high < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            wide, high = math.ceil(width * grow / unit) * unit, math.ceil(height * grow / unit) * unit
        return wide, high

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """(time, height, width) in patches."""
        wide, high = self.resized(width, height)
        return 1, high // self.patch_size, wide // self.patch_size

    def num_tokens(self, width: int, height: int) -> int:
        return math.prod(self.grid(width, height)) // self.merge_size**2
