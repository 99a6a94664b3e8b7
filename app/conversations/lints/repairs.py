"""What can be mended, by kind of finding: `REPAIRS[kind](raw value, field)` gives the mended value, None to drop it."""

from collections.abc import Callable
from typing import Any

from app.conversations.lints import bare_count, mojibake, personal_data, secret, think_leak


def drop(value: Any, field: str) -> None:
    """The record goes: of a pair the finding stands at the later one, so the first stays."""


REPAIRS: dict[str, Callable[[Any, str], Any]] = {
    "bare_count": bare_count.repair,
    "mojibake": mojibake.repair,
    "think_leak": think_leak.repair,
    "secret": secret.repair,
    "personal_data": personal_data.repair,
    "exact_duplicate": drop,
    "near_duplicate": drop,
}
