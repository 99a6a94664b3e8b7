"""Pictures as people have them: turned, in CMYK, moving, cut, huge, and the same one many times."""

import base64
import io
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from app.conversations import images
from app.conversations.inspection import inspect
from app.conversations.part import Options
from app.conversations.records import Rejected
from tests.factories import jsonl

SEVERAL = ("GIF", "TIFF", "WEBP", "PNG")  # forms with several pictures in a file


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (64, 32), **saved: Any) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new(mode, size).save(buffer, form, **saved)
    return buffer.getvalue()


def turned() -> bytes:
    exif = PIL.Image.Exif()
    exif[images.ORIENTATION] = 6
    return picture("JPEG", exif=exif)


def moving() -> bytes:
    frames = [PIL.Image.new("P", (64, 32), color) for color in (1, 2)]
    for number, frame in enumerate(frames):
        frame.putpixel((number, 0), 9)
    return picture("GIF", "P", save_all=True, append_images=frames)


def row(*data: bytes) -> dict[str, Any]:
    uris = [f"data:image/any;base64,{base64.b64encode(one).decode()}" for one in data]
    return {"prompt": "<image>" * len(data) + "what?", "response": "a thing", "images": uris}


def seen(folder: Path, *rows: dict[str, Any]) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    path = folder / "data.jsonl"
    path.write_bytes(jsonl(*rows))
    with inspect(path, Options()) as found:
        return [(one.kind, one.line) for one in found.findings()], found.totals()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (turned(), "image_rotated"),
        (picture("JPEG", "CMYK"), "image_converted"),
        (picture("PNG", "I;16"), "image_converted"),
        (picture("PNG", "RGBA"), "image_converted"),
        (moving(), "image_animated"),
        (picture("PNG", "1", (5000, 4000)), "image_large"),
        (picture("JPEG")[:-200], "image_broken"),
        (picture("PNG")[:60], "image_broken"),
        (picture("PNG", "1", (9000, 9000)), "image_broken"),
        (b"no picture", "image_broken"),
    ],
)
def test_an_odd_picture_is_found(tmp_path: Path, data: bytes, kind: str) -> None:
    assert (kind, 1) in seen(tmp_path, row(data))[0]


def test_a_turned_picture_is_measured_as_it_is_shown() -> None:
    shown = images.read_image(item(turned()), "image")
    assert (shown.width, shown.height) == (32, 64)


def test_the_same_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    as_rgb = images.as_rgb

    def counted(one: PIL.Image.Image) -> tuple[PIL.Image.Image, bool]:
        decoded.append(one.size)
        return as_rgb(one)

    monkeypatch.setattr(images, "as_rgb", counted)
    images._look.cache_clear()
    rows = [
        row(picture("PNG", size=(70, 40)), picture("PNG", size=(40, 70))) | {"response": f"no {n}"} for n in range(9)
    ]
    _, totals = seen(tmp_path, *rows)
    assert (decoded, totals["images"]) == ([(70, 40), (40, 70)], 18)
    assert totals["image_tokens"] == 18 * images.ImageRules().num_tokens(70, 40)


def with_a_broken_page() -> bytes:
    """A TIFF whose second page tells nothing of itself."""
    data = bytearray(picture("TIFF", save_all=True, append_images=[PIL.Image.new("RGB", (8, 8))]))
    first = int.from_bytes(data[4:8], "little")
    behind = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    second = int.from_bytes(data[behind : behind + 4], "little")
    data[second : second + 2] = b"\0\0"
    return bytes(data)


def test_a_later_page_that_is_broken_is_a_finding() -> None:
    with pytest.raises(Rejected, match="cannot be decoded"):
        images.read_image(item(with_a_broken_page()), "image")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_with_odd_bytes_is_read_or_rejected(form: str) -> None:
    numbers = random.Random(form)
    more: dict[str, Any] = (
        {"save_all": True, "append_images": [PIL.Image.new("RGB", (64, 32))]} if form in SEVERAL else {}
    )
    whole = picture(form, **more)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(numbers.randrange(1, 6)):
            at = numbers.randrange(min(len(data), numbers.choice((64, 300, len(data)))))
            data[at : at + numbers.choice((1, 1, 4))] = numbers.randbytes(numbers.choice((0, 1, 1, 4)))
        with suppress(Rejected):
            images.read_image(item(bytes(data)), "image")


def item(data: bytes) -> dict[str, Any]:
    return {"image": f"data:image/png;base64,{base64.b64encode(data).decode()}"}
