"""E-mail addresses and phone numbers."""

import re
from collections.abc import Iterator
from typing import Any

from app.conversations.findings import Finding
from app.conversations.lints.edit import change_text
from app.conversations.lints.record import Record, around

EMAIL = re.compile(r"(?<![\w.+/:@-])[\w.+-]{1,64}@(?:[a-zA-Z0-9-]{1,63}\.){1,4}[a-zA-Z]{2,24}(?![\w@:-])")
# Addresses that belong to nobody by the rules of the net, or to everybody.
NOBODY = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)\Z|\A(?:git|noreply)@", re.I
)
# +49 30 1234567, +1 (555) 010-0199, (555) 010-0199, 555-010-0199: with signs between, else any long number would do.
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?(?:[ .-]\d{2,8}){1,4}|\+[1-9]\d{9,13}"
    r"|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}-\d{3}-\d{4})(?![\w-]|\.\d)"
)
# One of these is found in every line with a phone number; each begins with a sign, which is searched for at once.
PLUS, DASHES, AREA = re.compile(rb"\+[1-9]"), re.compile(rb"-\d{3}-\d{4}"), re.compile(rb"\(\d{3}\)")
REMOVED = "[removed]"


def find(record: Record) -> Iterator[Finding]:
    raw = record.raw
    has_email = b"@" in raw
    has_phone = bool(
        (b"+" in raw and PLUS.search(raw)) or (b"-" in raw and DASHES.search(raw)) or (b"(" in raw and AREA.search(raw))
    )
    if not has_email and not has_phone:
        return
    for place, text in enumerate(record.texts):
        found = [*(emails(text) if has_email else ()), *(PHONE.finditer(text) if has_phone else ())]
        if found:
            first = found[0]
            words = "an e-mail address" if "@" in first[0] else "a phone number"
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            message = f"The text holds {words}{more}."
            yield record.finding("personal_data", place, message, around(text, first.start(), first.end()))


def emails(text: str) -> list[re.Match[str]]:
    return [found for found in EMAIL.finditer(text) if not NOBODY.search(found[0])]


def repair(value: Any, field: str) -> Any:
    return change_text(value, field, redact)


def redact(text: str) -> str:
    return PHONE.sub(REMOVED, EMAIL.sub(lambda found: found[0] if NOBODY.search(found[0]) else REMOVED, text))
