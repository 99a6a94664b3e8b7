"""`python -m app.analyse FILE`: reads a dataset in a process of its own and tells what it saw, as JSON lines.

    {"progress": 0.4, "num_records": n, "num_valid": m}     about twice a second
    {"findings": [...]}                                     at most 500 each, every finding once
    {"done": true, "num_records", "num_valid", "findings": {kind: count}, "statistics": {...}}     last

Memory does not grow with the file. A file that cannot be read ends with {"error": "..."} and exit status 2.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.conversations.findings import Checked, check_lines
from app.conversations.normalize import is_item_list
from app.conversations.records import Conversation, ExactNumber, Line

BATCH = 500
PROGRESS_EVERY_S = 0.5
LINES_PER_LOOK = 16  # how often the clock is read

ANSWER_KINDS: dict[type, str] = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    ExactNumber: "number",
    dict: "object",
    list: "list",
}

Say = Callable[[dict[str, Any]], None]


class Statistics:
    """Running totals over the valid records; characters count all texts, answers count every assistant turn."""

    def __init__(self) -> None:
        self.turns = self.characters = self.answer_characters = self.images = self.with_system = 0
        self.longest = 0
        self.answer_kinds: Counter[str] = Counter()

    def add(self, line: Line, conversation: Conversation) -> None:
        characters = 0
        for turn in conversation.turns:
            characters += len(turn.text)
            self.answer_characters += len(turn.text) if turn.role == "assistant" else 0
        self.turns += len(conversation.turns)
        self.characters += characters
        self.longest = max(self.longest, characters)
        self.images += len(conversation.images)
        self.with_system += conversation.turns[0].role == "system"
        self.answer_kinds.update(_answer_kinds(line.value))

    def as_json(self) -> dict[str, Any]:
        return {
            "turns": self.turns,
            "characters": self.characters,
            "longest": self.longest,
            "answer_characters": self.answer_characters,
            "images": self.images,
            "with_system": self.with_system,
            "answer_kinds": dict(self.answer_kinds),
        }


def analyse(path: Path, say: Say) -> None:
    """Read the whole file; every message goes to `say`."""
    size = max(1, path.stat().st_size)
    statistics, kinds = Statistics(), Counter[str]()
    waiting: list[dict[str, Any]] = []
    num_records = num_valid = 0
    spoke_at = time.monotonic()
    for checked in check_lines(path):
        num_records += 1
        num_valid += _count(checked, statistics, kinds, waiting)
        if len(waiting) >= BATCH:
            say({"findings": waiting[:BATCH]})
            del waiting[:BATCH]
        if num_records % LINES_PER_LOOK == 0 and time.monotonic() - spoke_at >= PROGRESS_EVERY_S:
            spoke_at = time.monotonic()
            say({"progress": round(checked.line.end / size, 4), "num_records": num_records, "num_valid": num_valid})
    if waiting:
        say({"findings": waiting})
    totals = {"num_records": num_records, "num_valid": num_valid, "findings": dict(kinds)}
    say({"done": True, **totals, "statistics": {"records": num_records, **statistics.as_json()}})


def _count(checked: Checked, statistics: Statistics, kinds: Counter[str], waiting: list[dict[str, Any]]) -> bool:
    """Take one line into the totals; whether it is valid."""
    for finding in checked.findings:
        kinds[finding.kind] += 1
        waiting.append(finding.as_json())
    if checked.conversation is None:
        return False
    statistics.add(checked.line, checked.conversation)
    return True


def _answer_kinds(value: Any) -> list[str]:
    """What JSON type each answer of a valid record was written as."""
    answers = [message["content"] for message in value["messages"] if message["role"] == "assistant"]
    return ["text" if is_item_list(answer) else ANSWER_KINDS[type(answer)] for answer in answers]


def _print(message: dict[str, Any]) -> None:
    # ASCII alone, so that the reader needs no word about the encoding of a pipe.
    sys.stdout.write(json.dumps(message, allow_nan=False) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m app.analyse FILE\n")
        return 2
    try:
        analyse(Path(arguments[0]), _print)
    except BrokenPipeError:
        return 1  # whoever started us is gone; there is nobody left to tell
    except OSError as error:
        _print({"error": f"The file cannot be read: {error.strerror or error}."})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
