"""Statistics of a dataset as bars: what is there is drawn, what is missing is left out."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.conversations.lints.kinds import KINDS, SEVERITIES
from app.conversations.rewriting import OF_THE_FILE, REPAIRABLE
from app.templating import kind_word, number, percent

MOST_BARS = 8
FIGURES = {
    "turns": "Turns",
    "tokens": "Tokens",
    "targets": "Trained tokens",
    "images": "Images",
    "image_tokens": "Tokens of images",
}
COUNTED = {
    "shapes": "Shapes of the records",
    "answer_kinds": "Answers are",
    "languages": "Languages",
}

Bars = list[dict[str, Any]]


def kinds(findings: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """The kinds that were found, the worst and most frequent first; of an unknown one the name is all."""
    found = []
    for name, count in (findings or {}).items():
        known = KINDS.get(name)
        told = known._asdict() if known else {"severity": "note", "why": "", "advice": ""}
        can = {"excludable": name in KINDS.keys() - OF_THE_FILE, "repairable": name in REPAIRABLE.keys() | OF_THE_FILE}
        found.append({"name": name, "count": count, **can, **told})
    return sorted(found, key=lambda one: (SEVERITIES.index(one["severity"]), -one["count"], one["name"]))


def figures(statistics: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The plain numbers that are there."""
    found = statistics or {}
    return [(words, number(found[name])) for name, words in FIGURES.items() if found.get(name)]


def pictures(findings: Mapping[str, int] | None, statistics: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Each a title and its bars."""
    found = statistics or {}
    drawn = [{"title": "Findings by severity", "bars": _severities(findings)}, *_shares(found)]
    for name, title in COUNTED.items():
        if isinstance(found.get(name), Mapping):
            counts = {code.upper(): n for code, n in found[name].items()} if name == "languages" else found[name]
            drawn.append({"title": title, "bars": _bars(counts)})
    return [picture for picture in drawn if picture["bars"]]


def _severities(findings: Mapping[str, int] | None) -> Bars:
    counts = Counter[str]()
    for one in kinds(findings):
        counts[one["severity"]] += one["count"]
    bars = _bars({name: counts[name] for name in SEVERITIES if counts[name]}, in_order=True)
    return [bar | {"hue": bar["name"].lower()} for bar in bars]


def _shares(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What part is trained: of the tokens where they were counted, else of the characters."""
    part, whole = ("targets", "tokens") if found.get("tokens") else ("answer_characters", "characters")
    if not found.get(whole) or part not in found:
        return []
    trained = found[part]
    title = "Tokens" if whole == "tokens" else "Characters"
    return [{"title": title, "bars": _bars({"trained": trained, "context": found[whole] - trained}, in_order=True)}]


def _bars(counts: Mapping[str, Any], in_order: bool = False) -> Bars:
    """A bar each, the longest first unless they have an order; many small ones are one."""
    items = [(name, count) for name, count in counts.items() if isinstance(count, int)]
    if not in_order:
        items.sort(key=lambda item: -item[1])
    if len(items) > MOST_BARS:
        rest = items[MOST_BARS - 1 :]
        items = [*items[: MOST_BARS - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    whole = sum(count for _, count in items)
    return [
        {
            "name": name if name.isupper() else kind_word(name),
            "hue": "",
            "share": percent(count, whole),
            "words": f"{number(count)} · {percent(count, whole):.0f} %",
        }
        for name, count in items
    ]


def histogram(counted: Mapping[str, Any], max_length: int) -> dict[str, Any] | None:
    """The lengths of the records as bars in a square of 100 by 100, with a line at `max_length`."""
    found = (counted.get("lengths") or {}).get("histogram")
    if not found:
        return None
    high, tallest = found[-1]["to"], max(bar["records"] for bar in found)
    bars = [
        {
            "x": 100 * bar["from"] / high,
            "width": 94 * (bar["to"] - bar["from"]) / high,
            "height": 100 * bar["records"] / tallest,
            "over": bar["from"] >= max_length,
            "words": f"{number(bar['from'])} to {number(bar['to'])} tokens: {number(bar['records'])}",
        }
        for bar in found
    ]
    limit = 100 * max_length / high if max_length < high else None
    words = f"the line is max_length, {number(max_length)}" if limit is not None else "tokens of a record"
    return {"title": "Lengths", "words": words, "bars": bars, "limit": limit, "low": 0, "high": high}


def token_pictures(counted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What becomes of the tokens, and whose they are."""
    tokens = counted.get("tokens") or {}
    parts = {
        words: tokens.get(part) for part, words in (("target", "trained"), ("context", "context"), ("image", "image"))
    }
    drawn = [{"title": "Tokens", "bars": _bars(parts, in_order=True)}]
    drawn.append({"title": "Tokens by role", "bars": _bars(tokens.get("roles") or {})})
    return [picture for picture in drawn if picture["bars"]]
