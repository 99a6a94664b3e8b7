"""What becomes of pictures that are not plain RGB: pixels as the model sees them."""

import io
import struct
from typing import Any

import PIL.Image
import pytest

from app.conversations.images import open_rgb, read_image
from tests.app.conversations.test_odd_images import item

Gray = list[int]


def saved(picture: PIL.Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def row_of(mode: str, kind: str, *values: float) -> PIL.Image.Image:
    """A picture one pixel high; `kind` is the type of its values as `struct` names it."""
    return PIL.Image.frombytes(mode, (len(values), 1), struct.pack(f"<{len(values)}{kind}", *values))


def grays(data: bytes) -> Gray:
    red, green, blue = (list(band.tobytes()) for band in open_rgb(data).split())
    assert red == green == blue
    return red


def is_noted(data: bytes) -> bool:
    return "image_converted" in read_image(item(data), "image").traits


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_of_gray_become_eight(form: str) -> None:
    data = saved(row_of("I;16", "H", 0, 257, 0x8000, 0xFFFF), form)
    assert (grays(data), is_noted(data)) == ([0, 1, 128, 255], True)


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        (row_of("F", "f", 0.0, 0.5, 1.0), [0, 128, 255]),
        (row_of("F", "f", -3e38, 0.0, 3e38), [0, 128, 255]),
        (row_of("I", "i", 100_000, 150_000, 200_000), [0, 128, 255]),
        (row_of("F", "f", 7.0, 7.0), [0, 0]),
    ],
)
def test_gray_without_a_range_of_its_own_is_scaled_by_its_pixels(picture: PIL.Image.Image, shown: Gray) -> None:
    data = saved(picture, "TIFF")
    assert (grays(data), is_noted(data)) == (shown, True)


@pytest.mark.parametrize("values", [(1.0, 2.0, float("nan")), (float("inf"), 1.0), (float("-inf"), float("inf"))])
def test_pixels_that_are_no_numbers_are_an_error_in_words(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not all numbers"):
        open_rgb(saved(row_of("F", "f", *values), "TIFF"))


def clear_and_black(mode: str) -> PIL.Image.Image:
    picture = PIL.Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 0, 255))
    return picture.convert(mode)


@pytest.mark.parametrize(
    "data",
    [
        *(saved(clear_and_black(mode), "PNG") for mode in ("RGBA", "LA")),
        *(saved(clear_and_black("RGBA"), form, lossless=True) for form in ("WEBP", "GIF", "TIFF")),
        saved(row_of("L", "B", 9, 0), "PNG", transparency=9),
        saved(row_of("L", "B", 9, 0).convert("RGB"), "PNG", transparency=(9, 9, 9)),
        saved(row_of("I;16", "H", 9, 0), "PNG", transparency=9),
    ],
)
def test_what_is_transparent_is_shown_on_white(data: bytes) -> None:
    assert (grays(data), is_noted(data)) == ([255, 0], True)


def test_half_transparent_black_is_gray() -> None:
    assert grays(saved(PIL.Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG")) == [127]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_a_picture_that_loses_nothing_is_not_noted(mode: str) -> None:
    data = saved(PIL.Image.new("RGB", (2, 1), (255, 255, 255)).convert(mode), "PNG")
    assert (grays(data), is_noted(data)) == ([255, 255], False)
