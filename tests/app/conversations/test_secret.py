"""Keys that a text gives away, and words that only begin like one. No key stands here in one piece."""

import random
import string
from pathlib import Path

import pytest

from app.conversations.lints.secret import REMOVED, redact
from tests.app.conversations.test_lints import found
from tests.factories import record

LETTERS = string.ascii_letters + string.digits
NUMBERS = random.Random(7)


def chance(number: int, signs: str = LETTERS) -> str:
    return "aB" + "".join(NUMBERS.choices(signs, k=number - 2))


KEYS = {
    "AIza" + chance(35, LETTERS + "-_"): "a Google API key",
    "hf_" + chance(34): "a Hugging Face token",
    "hf_" + chance(37, string.ascii_letters): "a Hugging Face token",
    "sk-ant-" + "api03-" + chance(93, LETTERS + "-_") + "AA": "an Anthropic key",
    "sk-ant-" + chance(86): "an Anthropic key",
    "npm_" + chance(36): "an npm token",
}


@pytest.mark.parametrize(("key", "words"), KEYS.items(), ids=range(len(KEYS)))
@pytest.mark.parametrize("around", ["{}", "KEY={}", 'use "{}", please', "?key={}&a=1", "is {}.", r"a\n{}\n"])
def test_a_key_is_found_and_taken_out(tmp_path: Path, key: str, words: str, around: str) -> None:
    (one,) = found(tmp_path, record(around.format(key), "fine"))
    assert (one.kind, one.message) == ("secret", f"The text holds {words}.")
    assert redact(around.format(key)) == around.format(REMOVED)


@pytest.mark.parametrize(
    "text",
    [
        "AIza is how a key begins, as in AIzaSyYourKeyHere",
        "AIza" + chance(60),
        "hf_hub_download(repo_id, filename) and HF_HOME",
        "hf_" + "0123456789abcdef" * 2 + "01",
        "hf_" + "x" * 34,
        "my_hf_" + chance(34),
        "sk-ant-api03-your-key-here",
        "sk-ant-" + "x" * 90,
        "npm_config_registry and npm_lifecycle_event",
        "npm_" + "a" * 36,
        "npm_" + chance(50),
    ],
)
def test_what_only_begins_like_a_key_is_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, record(text, "fine")) == []
    assert redact(text) == text
