import base64
import importlib.util
from collections.abc import Callable

import pytest

from app.conversations.images import ImageRules, open_rgb, read_image
from app.conversations.records import Rejected


def rejection(reference: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read_image({"type": "image", "image": reference}, "messages[0].content[0]")
    return caught.value


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_usual_formats_are_read(data_uri: Callable[..., str], form: str) -> None:
    image = read_image({"type": "image", "image": data_uri(40, 30, form)}, "")
    assert open_rgb(image.data).size == (image.width, image.height) == (40, 30)


def test_the_reference_may_stand_in_an_object_as_openai_writes_it(data_uri: Callable[..., str]) -> None:
    for item in ({"image": {"url": data_uri()}}, {"image_url": {"url": data_uri()}}, {"image_url": data_uri()}):
        assert read_image({"type": "image_url", **item}, "").width == 64


@pytest.mark.parametrize("reference", ["https://example.com/a.png", "images/a.png", "/etc/passwd", "file:///a.png"])
def test_urls_and_paths_are_never_opened(reference: str) -> None:
    error = rejection(reference)
    assert (error.kind, error.field) == ("image_missing", "messages[0].content[0]")
    assert "never fetched" in error.message
    assert "a data URI" in error.message and "a zip or tar" in error.message


@pytest.mark.parametrize("reference", [None, "", 5, {"url": None}, {}])
def test_an_item_without_an_image_is_missing_one(reference: object) -> None:
    assert rejection(reference).kind == "image_missing"


@pytest.mark.parametrize(
    "reference",
    [
        "data:image/png;base64",
        "data:image/png,plain",
        "data:image/png;base64,@@@",
        "data:image/png;base64,",
        "data:image/png;base64,aGVsbG8=",
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
    ],
)
def test_what_does_not_decode_is_broken(reference: str) -> None:
    assert rejection(reference).kind == "image_broken"


def test_a_picture_that_ends_too_soon_is_broken(data_uri: Callable[..., str]) -> None:
    data = base64.b64decode(data_uri(300, 300, "JPEG").partition(",")[2])
    half = base64.b64encode(data[: len(data) // 2]).decode()
    assert rejection(f"data:image/jpeg;base64,{half}").kind == "image_broken"


def test_a_picture_with_too_many_pixels_is_broken(
    data_uri: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.conversations.images.MAX_PIXELS", 61 * 47 - 1)
    error = rejection(data_uri(61, 47))
    assert (error.kind, "61 x 47 pixels are more than 2,866" in error.message) == ("image_broken", True)


def test_a_line_of_pixels_is_broken(data_uri: Callable[..., str]) -> None:
    error = rejection(data_uri(401, 2))
    assert (error.kind, "401 x 2 is longer than 200:1" in error.message) == ("image_broken", True)


@pytest.mark.parametrize(
    "size", [(64, 48), (640, 480), (1, 1), (5000, 40), (31, 6000), (8000, 6000), (48, 16), (80, 80)]
)
def test_sizes_are_those_of_the_models_own_processor(size: tuple[int, int]) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("transformers' image processing needs torch")
    oracle = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl", exc_type=ImportError)
    rules = ImageRules(patch_size=16, merge_size=2, min_pixels=4096, max_pixels=1_000_000)
    high, wide = oracle.smart_resize(size[1], size[0], factor=32, min_pixels=4096, max_pixels=1_000_000)
    assert rules.resized(*size) == (wide, high)
    assert rules.num_tokens(*size) == wide * high // 32**2


def test_the_limits_come_from_the_models_file_and_a_job_may_change_them() -> None:
    rules = ImageRules.read({"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 1024, "longest_edge": 65536}})
    assert rules.grid(1000, 1000) == (1, 16, 16)
    assert rules.limited(None, 16_384).grid(1000, 1000) == (1, 8, 8)
    assert rules.limited(1024, None) == rules
