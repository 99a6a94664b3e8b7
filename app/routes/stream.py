"""Server-sent events: replay from the table, then live from the hub, each event once and in order."""

import asyncio
from collections.abc import AsyncIterator
from itertools import groupby
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from sqlmodel import Session
from starlette.responses import StreamingResponse
from starlette.types import Send

from app.db import Database, DatabaseDep
from app.errors import wrong_field
from app.hub import Entry, Hub
from app.models import ENDED
from app.services import events, jobs

router = APIRouter(prefix="/api")

PAGE = 500
PING_S = 5.0
SEND_TIMEOUT_S = 30.0
PING = b"event: ping\ndata: {}\n\n"
RESET = b"event: reset\ndata: {}\n\n"
DONE = b"event: done\ndata: {}\n\n"


class EventStream(StreamingResponse):
    """A streaming answer that gives up on a client that stopped reading."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], status_code: int = 200) -> None:
        super().__init__(content, status_code, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self.body_iterator:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def messages(entries: list[Entry]) -> bytes:
    """Neighbours of one kind share a message; a change of kind starts a new one."""
    parts = []
    for kind, group in groupby(entries, key=lambda entry: entry.kind):
        same = list(group)
        data = b",".join(entry.data for entry in same)
        parts.append(b"id: %d\nevent: %s\ndata: [%s]\n\n" % (same[-1].id, kind.encode(), data))
    return b"".join(parts)


async def stream(
    hub: Hub, database: Database, wanted: events.Wanted, cursor: int, *, job_id: int | None = None, reset: bool = False
) -> AsyncIterator[bytes]:
    """Bytes of the stream from the cursor on. With `job_id` it closes after the job's end state."""
    yield RESET if reset else PING
    quiet_since = asyncio.get_running_loop().time()
    may_be_done = is_replay = True
    while not hub.closing:
        # The ring still holds what a later attempt superseded; a replay is read from the table, which knows.
        entries = None if is_replay else hub.since(cursor)
        if entries is None:
            newest = max(hub.newest_id, cursor)
            entries = await to_thread.run_sync(_read_page, database, wanted, cursor, newest)
            cursor = entries[-1].id if len(entries) == PAGE else newest
        elif entries:
            cursor = entries[-1].id
            entries = [entry for entry in entries if wanted.holds(entry)]
        if entries:
            may_be_done = may_be_done or any(entry.ends_job for entry in entries)
            yield messages(entries)
            quiet_since = asyncio.get_running_loop().time()
        if cursor < hub.newest_id:
            continue
        is_replay = False
        if job_id is not None and may_be_done:
            has_ended, newest = await to_thread.run_sync(_end, database, job_id)
            if has_ended and newest <= cursor:
                yield DONE
                return
            may_be_done = has_ended
        left = quiet_since + PING_S - asyncio.get_running_loop().time()
        # Events of others do not count: this client has heard nothing.
        if left <= 0 or not await hub.wait(cursor, left):
            yield PING
            quiet_since = asyncio.get_running_loop().time()


def _read_page(database: Database, wanted: events.Wanted, cursor: int, up_to: int) -> list[Entry]:
    with database.read() as session:
        return events.read_page(session, wanted, cursor, up_to, PAGE)


def _end(database: Database, job_id: int) -> tuple[bool, int]:
    """Whether the job is in an end state, and the id of its newest event."""
    with database.read() as session:
        return jobs.get(session, job_id).state in ENDED, events.newest_id_of_job(session, job_id)


def _cursor(session: Session, last_event_id: str | None, after: int | None) -> int | None:
    """Where to go on: the header before the parameter; what lies beyond the newest event means the newest."""
    told = (last_event_id or "").strip()
    if told.isascii() and told.isdigit():
        after = int(told[:20])
    return None if after is None else min(after, events.newest_id(session))


After = Annotated[int | None, Query(ge=0, le=2**62)]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]


@router.get("/jobs/{job_id}/events", response_class=EventStream)
def job_events(
    request: Request, database: DatabaseDep, job_id: int, after: After = None, last_event_id: LastEventId = None
) -> EventStream:
    """All events of one job, from its first one unless told where to go on."""
    with database.read() as session:
        jobs.get(session, job_id)
        cursor = _cursor(session, last_event_id, after)
        reset = cursor is not None and cursor < events.pruned_id(session)
    wanted = events.Wanted(jobs=frozenset({job_id}))
    return EventStream(stream(request.app.state.hub, database, wanted, cursor or 0, job_id=job_id, reset=reset))


@router.get("/events", response_class=EventStream)
def all_events(
    request: Request,
    database: DatabaseDep,
    topics: str = "",
    jobs: str = "",
    after: After = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """The topics named, and all of the jobs named; from now on unless told where to go on."""
    chosen = frozenset(one for one in topics.split(",") if one)
    if unknown := chosen - set(events.TOPICS):
        raise wrong_field("topics", f"{', '.join(sorted(unknown))} is not one of {', '.join(events.TOPICS)}")
    ids = [one for one in jobs.split(",") if one]
    if not all(one.isascii() and one.isdigit() and len(one) < 18 for one in ids):
        raise wrong_field("jobs", "must be ids separated by commas")
    wanted = events.Wanted(frozenset(map(int, ids)), chosen or frozenset({*events.TOPICS} if not ids else ()))
    hub: Hub = request.app.state.hub
    with database.read() as session:
        cursor = _cursor(session, last_event_id, after)
        reset = cursor is not None and cursor < events.pruned_id(session)
        start = events.newest_id(session) if cursor is None else cursor
    return EventStream(stream(hub, database, wanted, start, reset=reset))
