"""Pictures of every mode in RGB, without the ways in which a plain conversion ruins them.

It cuts greyscale of more than 8 bits off at white, and shows what lies under transparent places, mostly black.
"""

import math

import PIL.Image
from PIL import ImageOps

SHIFTED = ("CMYK", "LAB")  # modes with colors that RGB does not have


def as_rgb(picture: PIL.Image.Image) -> tuple[PIL.Image.Image, bool]:
    """The picture in RGB, turned as its EXIF says, and whether it shows other colors than were saved.

    Raises ValueError in words where that is impossible.
    """
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):
        return _from_16_bits(turned).convert("RGB"), True
    if turned.mode in ("I", "F"):
        return _from_any_range(turned).convert("RGB"), True
    if turned.has_transparency_data:
        return _on_white(turned)
    return turned.convert("RGB"), turned.mode in SHIFTED


def _from_16_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    shades = [round(value / 257) for value in range(65_536)]
    if isinstance(clear := picture.info.get("transparency"), int):
        shades[clear] = 255
    return picture.convert("I").point(shades, "L")


def _from_any_range(picture: PIL.Image.Image) -> PIL.Image.Image:
    """From black for the least value of the picture to white for its greatest."""
    mean, (low, high) = picture.resize((1, 1), PIL.Image.Resampling.BOX).getpixel((0, 0)), picture.getextrema()
    assert isinstance(mean, int | float) and isinstance(low, int | float) and isinstance(high, int | float), "one band"
    if not math.isfinite(mean):  # as it is where a single pixel is not
        raise ValueError("its pixels are not all numbers")
    scale = 255 / (high - low) if high > low else 0.0
    return picture.convert("F").point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _on_white(picture: PIL.Image.Image) -> tuple[PIL.Image.Image, bool]:
    layer = picture.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer.convert("RGB"), False  # nothing of it is transparent
    white = PIL.Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer)
    return white, True
