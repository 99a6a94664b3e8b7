"""The trainer's voice: `events.jsonl`, one numbered JSON object a line, flushed line by line."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class EventLog:
    """Appends events; numbering goes on from the last line that is already in the file.

    `step` is the last step that was reported.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.step = step
        self._seq = _last_seq(path)
        # Unbuffered and O_APPEND: a line is one write, so a reader never sees half of one for long.
        self._file = path.open("ab", buffering=0)

    def emit(self, kind: str, **fields: Any) -> None:
        self._seq += 1
        if kind == "step":
            self.step = fields["step"]
        event = {"seq": self._seq, "at": now(), "kind": kind, **fields}
        self._file.write(json.dumps(without_nan(event), ensure_ascii=False).encode() + b"\n")

    def state(self, state: str, phase: str, message: str, **fields: Any) -> None:
        self.emit("state", state=state, phase=phase, message=message, **fields)

    def log(self, text: str, level: str = "info") -> None:
        self.emit("log", level=level, text=text)

    def close(self) -> None:
        self._file.close()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without_nan(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None, as JSON knows neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return value


def _last_seq(path: Path) -> int:
    """The highest number in the file; a torn last line (a crash amid a write) is closed and not counted."""
    if not path.exists():
        return 0
    lines = path.read_bytes().split(b"\n")
    if lines[-1]:
        with path.open("ab") as file:
            file.write(b"\n")
    return max((_seq(line) for line in lines), default=0)


def _seq(line: bytes) -> int:
    try:
        event = json.loads(line)
    except ValueError:
        return 0
    return int(event.get("seq", 0)) if isinstance(event, dict) else 0
