"""Committed events on their way to the open streams of this process.

A stream holds a cursor, the id of the last event it has dealt with. It reads on from the hub's ring of recent events;
one that fell behind the ring reads from the table instead, so a slow client costs no memory and misses nothing.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from app.models import Event

RING = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it goes over the wire: formatted once, the bytes shared by all clients."""

    id: int
    kind: str
    job_id: int | None
    lane_job_id: int | None
    ends_job: bool
    data: bytes


def iso(moment: datetime | None) -> str | None:
    """A moment as the contract writes it: ISO 8601 in UTC with `Z`, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_json(event: Event) -> dict[str, Any]:
    """The event as clients see it; `job`, `attempt` and `seq` are absent where it belongs to no job."""
    head: dict[str, Any] = {"id": event.id, "at": iso(event.at)}
    if event.job_id is not None:
        head |= {"job": event.job_id, "attempt": event.attempt, "seq": event.seq}
    return head | event.data


def to_entry(event: Event) -> Entry:
    assert event.id is not None
    ends = event.kind == "state" and event.data.get("state") in ("succeeded", "failed", "cancelled")
    return Entry(event.id, event.kind, event.job_id, event.lane_job_id, ends, _bytes(event_json(event)))


def row_entry(row: dict[str, Any]) -> Entry:
    """The same for the columns of an event of a job that is no state."""
    head = {"id": row["id"], "at": iso(row["at"]), "job": row["job_id"], "attempt": row["attempt"], "seq": row["seq"]}
    return Entry(row["id"], row["kind"], row["job_id"], None, False, _bytes(head | row["data"]))


def _bytes(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)


class Hub:
    """The ring of recent events and the streams that wait for the next one. Lives on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, newest_id: int) -> None:
        self._loop = loop
        self._ring: deque[Entry] = deque(maxlen=RING)
        self._next: asyncio.Future[None] = loop.create_future()
        self.newest_id = newest_id
        self.oldest_id = newest_id  # events up to this one are in the table alone
        self.closing = False

    def publish(self, events: Iterable[Event | Entry]) -> None:
        """Called from any thread, in the order of ids, after their commit."""
        entries = [event if isinstance(event, Entry) else to_entry(event) for event in events]
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._append, entries)

    def _append(self, entries: list[Entry]) -> None:
        for entry in entries:
            if len(self._ring) == RING:
                self.oldest_id = self._ring[0].id
            self._ring.append(entry)
            self.newest_id = entry.id
        self._wake()

    def _wake(self) -> None:
        waiting, self._next = self._next, self._loop.create_future()
        waiting.set_result(None)

    def close(self) -> None:
        """End all streams, now and later; called when the process was asked to stop."""
        self.closing = True
        self._loop.call_soon_threadsafe(self._wake)

    def since(self, cursor: int) -> list[Entry] | None:
        """Events after the cursor, or None where the ring does not reach back that far."""
        if cursor >= self.newest_id:
            return []
        if cursor < self.oldest_id:
            return None
        start = bisect_right(self._ring, cursor, key=lambda entry: entry.id)
        return list(islice(self._ring, start, None))

    async def wait(self, cursor: int, timeout: float) -> bool:
        """Wait until there is an event after the cursor; false when the time is over first."""
        if cursor < self.newest_id or self.closing:
            return True
        try:
            await asyncio.wait_for(asyncio.shield(self._next), timeout)
        except TimeoutError:
            return False
        return True
