"""Write the bundled sample: `python examples/make_sample.py` makes capitals.jsonl anew, the same bytes each time.

16 facts, each asked in eight ways: 128 short conversations. The answers are of every kind that real data holds: texts,
integers, objects and lists. A tiny model learns them by heart in 100 steps of 8 examples.
"""

import json
from pathlib import Path

FACTS: tuple[tuple[str, object], ...] = (
    ("the capital of France", "Paris"),
    ("the capital of Japan", "Tokyo"),
    ("the capital of Peru", "Lima"),
    ("the capital of Norway", "Oslo"),
    ("the capital of Egypt", "Cairo"),
    ("the number of letters in Rome", 4),
    ("the number of letters in Vienna", 6),
    ("the number of letters in Santiago", 8),
    ("the number of letters in Amsterdam", 9),
    ("an object with the capital of Italy", {"capital": "Rome"}),
    ("an object with the capital and the continent of Kenya", {"capital": "Nairobi", "continent": "Africa"}),
    ("an object with the capital and the continent of China", {"capital": "Beijing", "continent": "Asia"}),
    ("a list of the capitals of Spain and Germany", ["Madrid", "Berlin"]),
    ("a list of the colours in the flag of Italy", ["green", "white", "red"]),
    ("a list of the colours in the flag of Sweden", ["blue", "yellow"]),
    ("a list of the first three odd numbers", [1, 3, 5]),
)
WAYS = (
    "Name {}.",
    "Give {}.",
    "Tell me {}.",
    "What is {}?",
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
