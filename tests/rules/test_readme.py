"""What the README promises is there, and what is there is in the README."""

import re

import pytest

from app.config import Settings
from tests.rules.test_makefile import TARGETS
from tests.rules.tree import ROOT, text


@pytest.fixture(scope="module")
def readme() -> str:
    return text(ROOT / "README.md")


def test_every_make_target_it_names_exists(readme: str) -> None:
    named = set(re.findall(r"^\s*make ([a-z-]+)|`make ([a-z-]+)", readme, re.MULTILINE))
    assert {"demo", "up", "test"} <= {one or other for one, other in named} <= TARGETS


def test_every_setting_is_explained_and_every_variable_is_a_setting(readme: str) -> None:
    settings = {"REDIS_URL" if name == "redis_url" else f"TRAINCTL_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"`(TRAINCTL_[A-Z_]+|REDIS_URL)\b", readme))
    assert (settings - named, named - settings) == (set(), set())


def test_every_file_it_links_to_exists(readme: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []
