"""Texts to token ids with a model's tokenizer, without the work of composing letters where there is none to do.

Qwen's tokenizer composes letters and marks (Unicode's NFC) before it cuts a text into tokens, letter by letter. It is
12 to 18 % of the time and changes nothing in most texts: all characters in `STABLE` are composed, stay so beside each
other, and Unicode promises that this holds in every later version. Such texts go through a tokenizer without that step.
Any character that is not listed sends its text the whole way.
"""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer, normalizers

# Latin, punctuation, money, arrows to box drawing, kana, Han, Hangul syllables, emoji; no letter that composes.
STABLE = (
    "\0-\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20c0\u2190-\u2328\u232b-\u2adb\u3000-\u3029\u3041-\u3096\u309b-\u30ff"
    "\u4e00-\u9fff\uac00-\ud7a3\ufe0f\U0001f300-\U0001faff"
)
_ALL_STABLE = re.compile(f"[{STABLE}]*+")


class Encoder:
    """`tokenizer` is used as it is set up at that moment; what is changed in it later may not be seen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._whole = tokenizer
        self._short = _without_composing(tokenizer)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text as `tokenizer.encode_batch` gives them, without special tokens around them."""
        if self._short is None:
            return _ids(self._whole, texts)
        whole = [text for text in texts if not is_stable(text)]
        if not whole:
            return _ids(self._short, texts)
        known = dict(zip(whole, _ids(self._whole, whole), strict=True))
        short = [text for text in texts if text not in known]
        known.update(zip(short, _ids(self._short, short), strict=True))
        return [known[text] for text in texts]


def is_stable(text: str) -> bool:
    """Whether every character is listed. Python knows at once of most texts that they are Latin-1."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return _ALL_STABLE.fullmatch(text) is not None
    return True


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _without_composing(tokenizer: Tokenizer) -> Tokenizer | None:
    """The tokenizer without NFC, on the same vocabulary in memory; None where it does something else, or more."""
    if type(tokenizer.normalizer) is not normalizers.NFC:
        return None
    short = Tokenizer(tokenizer.model)
    short.pre_tokenizer = tokenizer.pre_tokenizer
    added = tokenizer.get_added_tokens_decoder()
    short.add_tokens([added[number] for number in sorted(added)])
    short.encode_special_tokens = tokenizer.encode_special_tokens
    return short if short.get_added_tokens_decoder() == added else None
