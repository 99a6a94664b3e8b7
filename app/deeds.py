"""The history of a job in words, the same on its page and on the command line."""

from collections.abc import Mapping
from typing import Any

WORDS = {
    "create": "added it",
    "cancel": "stopped it",
    "pause": "paused it",
    "resume": "let it go on",
    "retry": "started it anew",
    "save": "asked for a checkpoint",
    "sample": "asked for samples",
    "priority": "changed its priority",
    "move": "moved it in the queue",
    "preempt": "let another job go first",
    "max_duration": "stopped it at its longest duration",
    "dependency": "stopped it with the job it waited for",
    "trash": "moved it to the trash",
    "restore": "took it out of the trash",
}

CENTER = "control center"  # what it did by itself
COMMAND = "trainctl"  # what the command line calls itself
BY = {"page": "by the page", "api": "by REST", COMMAND: f"by {COMMAND}"}


def who_words(who: str) -> str:
    """By what it was done, and from where: `by REST from 10.0.0.7`."""
    told, _, afar = who.partition(" from ")
    return BY.get(told, told) + (f" from {afar}" if afar else "")


def deed_words(row: Mapping[str, Any]) -> str:
    """What was done in one entry of `GET /api/jobs/ID/history`."""
    detail = row["detail"] or {}
    words: str = WORDS.get(row["action"], row["action"].replace("_", " "))
    match row["action"]:
        case "cancel" if detail.get("save") is False:
            return f"{words} at once"
        case "resume" if detail.get("step"):
            return f"{words} from step {detail['step']:,}"
        case "priority":
            return f"{words} to {detail.get('priority')}"
        case "preempt" if detail.get("for"):
            return f"{words} (job {detail['for']})"
        case "move":
            return f"{words}{_where(detail)}"
    return words


def _where(detail: Mapping[str, Any]) -> str:
    if detail.get("before"):
        return f", before job {detail['before']}"
    return f", to place {detail['position']}" if detail.get("position") else ""
