"""The table of the fault matrix: who died, when, and how long the job took to go on.

`FAULTS_TABLE` names a file that holds it as markdown, after each cell: a session that breaks off leaves its part.
"""

import os
from pathlib import Path
from typing import Any

_cells: dict[tuple[str, str], str] = {}


def note(who: str, when: str, seconds: float, event: dict[str, Any]) -> None:
    went_on = event.get("state") or (f"attempt {event['attempt']}" if "attempt" in event else "the same attempt")
    _cells[who, when] = f"{seconds:.1f} s, {went_on}"
    if place := os.environ.get("FAULTS_TABLE"):
        Path(place).write_text("\n".join(table()) + "\n")


def table() -> list[str]:
    """Lines of markdown; empty where no cell was tried. A dash stands for what cannot be or was not tried."""
    rows, columns = (list(dict.fromkeys(key[place] for key in _cells)) for place in (0, 1))
    if not rows:
        return []
    head = ["| who dies | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return head + [f"| {row} | " + " | ".join(_cells.get((row, one), "-") for one in columns) + " |" for row in rows]
