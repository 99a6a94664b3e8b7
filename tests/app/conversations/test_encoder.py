"""The short way to token ids gives the ids of the whole way, for any text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from app.conversations.encoder import Encoder, _without_composing, is_stable
from app.conversations.tiny_tokenizer import build_tokenizer

# Marks, letters that compose, Hangul's parts, signs that decompose, special tokens, and what the short way may take.
ODD = ["e\u0301", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u2126", "\u2329", "\u0958", "<|im_end|>", "<think>", "é"]
TEXTS = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(ODD)), max_size=6).map("".join)


@pytest.fixture(scope="module")
def composing() -> Tokenizer:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.encode_special_tokens = True
    return tokenizer


@given(texts=st.lists(TEXTS, max_size=5, unique=True))
def test_the_short_way_gives_the_ids_of_the_whole_way(composing: Tokenizer, texts: list[str]) -> None:
    whole = [one.ids for one in composing.encode_batch(texts, add_special_tokens=False)]
    assert Encoder(composing).ids(texts) == whole


def pairs(one: str) -> str:
    """The characters a character is composed of, "" where it is not."""
    parts = unicodedata.decomposition(one)
    return "" if parts.startswith("<") else "".join(chr(int(part, 16)) for part in parts.split())


def test_every_listed_character_is_composed_and_joins_no_other(composing: Tokenizer) -> None:
    listed = [one for one in map(chr, range(0x110000)) if not "\ud800" <= one <= "\udfff" and is_stable(one)]
    assert len(listed) > 30_000
    for one in listed:
        assert unicodedata.is_normalized("NFC", one)
        assert not unicodedata.combining(one)
        assert composing.normalizer.normalize_str(one) == one
    # What stands second in a composition joins what is before it; Hangul's vowels and ends do so by rule.
    seconds = {parts[-1] for one in map(chr, range(0x110000)) if len(parts := pairs(one)) == 2}
    assert len(seconds) > 50
    assert not {*seconds, *map(chr, range(0x1161, 0x1176)), *map(chr, range(0x11A8, 0x11C3))} & set(listed)


def test_a_mark_sends_its_text_the_whole_way(composing: Tokenizer) -> None:
    short = _without_composing(composing)
    assert short is not None
    apart, composed = "e\u0301", "\u00e9"
    assert short.encode(apart).ids != short.encode(composed).ids
    one, other = Encoder(composing).ids([apart, composed])
    assert one == other


def test_a_tokenizer_that_does_more_keeps_its_only_way(composing: Tokenizer) -> None:
    composing = Tokenizer.from_str(composing.to_str())
    composing.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    assert _without_composing(composing) is None
    assert Encoder(composing).ids(["ABC"]) == Encoder(composing).ids(["abc"])
