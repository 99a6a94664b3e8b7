import hashlib
import json
import re

import pytest

from app.templating import STATIC_DIR, duration, kind_word, loss, polyline, short, size

VENDORED = json.loads((STATIC_DIR / "vendor/VENDORED.json").read_text())


@pytest.mark.parametrize("one", VENDORED, ids=lambda one: one["file"])
def test_what_was_taken_from_others_is_as_it_was_taken(one: dict[str, str]) -> None:
    assert hashlib.sha256((STATIC_DIR / one["file"]).read_bytes()).hexdigest() == one["sha256"]
    assert (STATIC_DIR / one["licence_text"]).stat().st_size > 400


def test_nothing_vendored_is_left_unnamed() -> None:
    paths = [*(STATIC_DIR / "vendor").glob("*.*"), *(STATIC_DIR / "fonts").glob("*.*")]
    found = {path.relative_to(STATIC_DIR).as_posix() for path in paths}
    assert found - {"vendor/VENDORED.json"} == {one["file"] for one in VENDORED} - {"icons.svg"}


def test_every_icon_named_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'id="([\w-]+)"', (STATIC_DIR / "icons.svg").read_text()))
    texts = [path.read_text() for path in (STATIC_DIR.parent / "templates").rglob("*.html")]
    assert set(re.findall(r'icon\("([\w-]+)"\)', "".join(texts))) <= sprite


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (duration(45), "45 s"),
        (duration(3900), "1 h 05 min"),
        (duration(200_000), "2 d 7 h"),
        (duration(None), "–"),
        (size(999), "999 B"),
        (size(431_521), "432 kB"),
        (size(5_100_000), "5.1 MB"),
        (short(0.0002), "2e-4"),
        (short(0.000124), "1.24e-4"),
        (loss(1.32519), "1.325"),
        (loss(0.04213), "0.0421"),
        (kind_word("not_json"), "Not JSON"),
        (polyline([None, 1.0]), ""),
    ],
)
def test_numbers_read_as_people_write_them(shown: str, wanted: str) -> None:
    assert shown == wanted
