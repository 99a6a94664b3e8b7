"""An answer that refuses."""

import re
from collections.abc import Iterator

from app.conversations.findings import Finding
from app.conversations.lints.record import Record

HEAD = 160
OPENINGS = (
    r"i(?:['\u2019]m| am) (?:sorry|afraid|unable|not able)",
    r"i (?:can(?:not|['\u2019]t)|won['\u2019]t)"
    r" (?:help|assist|provide|do|answer|comply|fulfil|generate|create|access|discuss)",
    r"(?:i )?must decline|i apologi[sz]e",
    r"es tut mir leid|ich kann (?:dir|ihnen)? ?(?:dabei )?nicht|je suis d\u00e9sol\u00e9",
    r"lo siento|mi dispiace|desculpe|\u5f88\u62b1\u6b49|\u62b1\u6b49|\u6211\u65e0\u6cd5|\u7533\u3057\u8a33",
)
REFUSAL = re.compile(rf"\b(?:{'|'.join(OPENINGS)})", re.IGNORECASE)


def find(record: Record) -> Iterator[Finding]:
    for place, text in record.answers:
        if text[:1] not in "{[" and REFUSAL.search(text[:HEAD]):
            yield record.finding("refusal", place, "The answer refuses.")
