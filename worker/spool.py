"""The spool: `events.jsonl` of an attempt, written by the trainer, sent in order and kept until it was accepted."""

import json
import logging
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger("worker.spool")

BATCH = 500
READ_BYTES = 4 << 20

Event = dict[str, Any]


class Spool:
    """Reads complete lines only: the last one may still be on its way. Memory holds about one read at most."""

    def __init__(self, job_dir: Path) -> None:
        self.path = job_dir / "events.jsonl"
        self.last_step = 0
        self._offset = 0
        self._waiting: deque[Event] = deque()
        self._accepted_seq = 0

    def next_batch(self, limit: int = BATCH) -> list[Event]:
        """The oldest events that nobody accepted yet, at most `limit`; the same ones again until `accept`."""
        if len(self._waiting) < BATCH:
            self._read()
        return [self._waiting[index] for index in range(min(limit, len(self._waiting)))]

    def accept(self, seq: int) -> list[Event]:
        """Forgets what is accepted up to `seq` and returns it; goes back where the server has less than we thought."""
        if seq < self._accepted_seq:
            self._offset, self._waiting = 0, deque()
        done = []
        self._accepted_seq = seq
        while self._waiting and self._waiting[0]["seq"] <= seq:
            done.append(self._waiting.popleft())
        return done

    def replace_first(self, fields: Event) -> None:
        """Lets other fields go under the number and time of the oldest event that waits."""
        first = self._waiting[0]
        self._waiting[0] = {"seq": first["seq"], "at": first.get("at"), **fields}

    def append(self, kind: str, fields: Event) -> None:
        """Writes an event of the worker itself; only while no trainer runs."""
        last = self._last_seq()
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"seq": last + 1, "at": at, "kind": kind, **fields}, allow_nan=False)
        with self.path.open("ab") as stream:
            stream.write(line.encode() + b"\n")

    def _read(self) -> None:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                block = stream.read(READ_BYTES)
                if b"\n" not in block and len(block) == READ_BYTES:
                    block += stream.readline()
        except FileNotFoundError:
            return
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        if (event := _event(line)) is None:
            if line.strip():
                log.warning("A line of %s is not an event and is left out: %.80r", self.path, line)
            return
        if event.get("kind") == "step" and isinstance(event.get("step"), int):
            self.last_step = max(self.last_step, event["step"])
        if event["seq"] > self._accepted_seq:
            self._waiting.append(event)

    def _last_seq(self) -> int:
        try:
            with self.path.open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - (1 << 16)))
                tail = stream.read()
        except FileNotFoundError:
            return 0
        return max((event["seq"] for line in tail.splitlines() if (event := _event(line)) is not None), default=0)


def _event(line: bytes) -> Event | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("seq"), int) else None
