"""The lints that look at one record alone."""

from collections.abc import Callable, Iterator

from app.conversations.findings import Finding
from app.conversations.lints import (
    bare_count,
    boilerplate,
    mojibake,
    odd_image,
    personal_data,
    refusal,
    role_order,
    secret,
    think_leak,
)
from app.conversations.lints.record import Record

LINTS: tuple[Callable[[Record], Iterator[Finding]], ...] = (
    bare_count.find,
    mojibake.find,
    think_leak.find,
    secret.find,
    personal_data.find,
    refusal.find,
    boilerplate.find,
    role_order.find,
    odd_image.find,
)
