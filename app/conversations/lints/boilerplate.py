"""Phrases of other assistants that carry nothing."""

import re
from collections.abc import Iterator

from app.conversations.findings import Finding
from app.conversations.lints.record import Record, around

EDGE = 240
PHRASE = re.compile(
    r"\bas an ai(?: language model|\b)|\bas a large language model|\bi (?:was|am) (?:trained|created|developed) by \w+"
    r"|\bmy knowledge cut-?off|\bi hope this helps|\blet me know if you (?:have|need)|\bfeel free to (?:ask|reach)"
    r"|^(?:certainly|sure|of course|absolutely|great question)[!,]",
    re.IGNORECASE,
)


def find(record: Record) -> Iterator[Finding]:
    for place, text in record.answers:
        if text[:1] in "{[":
            continue
        edges = text if len(text) <= 2 * EDGE else f"{text[:EDGE]}\n{text[-EDGE:]}"
        if found := PHRASE.search(edges):
            message = f"The answer has the phrase '{found[0]}'."
            yield record.finding("boilerplate", place, message, around(edges, found.start(), found.end()))
