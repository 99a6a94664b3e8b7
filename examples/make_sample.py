"""Write the bundled sample: `python examples/make_sample.py` makes capitals.jsonl anew, the same bytes each time.

16 facts, each asked in eight ways: 128 short conversations. The answers are of every kind that real data holds: texts,
integers, objects and lists. A tiny model learns them by heart in 100 steps of 8 examples.
"""

import json
from pathlib import Path

FACTS: tuple[tuple[str, object], ...] = (
    ("the capital of France", "Paris"),
    ("the capital of Japan", "Tokyo"),
    ("the river through Vienna", "Danube"),
    ("the language of Brazil", "Portuguese"),
    ("the largest ocean", "Pacific"),
    ("the letters in Amsterdam", 9),
    ("the days in a week", 7),
    ("the hours in a day", 24),
    ("the months in a year", 12),
    ("an object with the capital of Italy", {"capital": "Rome"}),
    ("an object with the city and the country of the Eiffel Tower", {"city": "Paris", "country": "France"}),
    ("an object with the three states of matter", {"states": ["solid", "liquid", "gas"]}),
    ("a list of the capitals of Spain and Germany", ["Madrid", "Berlin"]),
    ("a list of the seasons", ["spring", "summer", "autumn", "winter"]),
    ("a list of even digits", [0, 2, 4, 6, 8]),
    ("a list of odd numbers below ten", [1, 3, 5, 7, 9]),
)
WAYS = (
    "Name {}.",
    "Give {}.",
    "Tell me {}.",
    "Write {}.",
    "Please name {}.",
    "Please give {}.",
    "I need {}.",
    "Say {}.",
)


def rows() -> list[str]:
    """One JSON line a conversation: every fact once in the first way, then in the second, and so on."""
    return [
        json.dumps({"messages": [_turn("user", way.format(fact)), _turn("assistant", answer)]}, ensure_ascii=False)
        for way in WAYS
        for fact, answer in FACTS
    ]


def _turn(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


if __name__ == "__main__":
    Path(__file__).with_name("capitals.jsonl").write_text("\n".join(rows()) + "\n", encoding="utf-8")
