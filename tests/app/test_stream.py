import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.columns import utc_now
from app.hub import RING, Entry, Hub
from app.routes import stream as streaming
from app.services import events
from tests.factories import Center, Claim

Message = tuple[str, int | None, list[dict[str, object]]]


def parse(text: str) -> list[Message]:
    """(kind, id, data) of every message but pings."""
    found: list[Message] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if fields and fields["event"] != "ping":
            number = int(fields["id"]) if "id" in fields else None
            found.append((fields["event"], number, json.loads(fields["data"])))
    return found


def finished_job(center: Center, steps: int = 3) -> Claim:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(*[claim.step(step) for step in range(1, steps + 1)])
    claim.succeed()
    return claim


def ids(messages: list[Message]) -> list[object]:
    return [one["id"] for _, _, data in messages if isinstance(data, list) for one in data]


def test_a_jobs_stream_replays_all_of_it_and_closes(center: Center) -> None:
    claim = finished_job(center)
    messages = parse(center.get(f"/api/jobs/{claim.job_id}/events").text)
    kinds = [kind for kind, _, _ in messages]
    assert kinds == ["state", "step", "state", "done"]
    assert [one["step"] for one in messages[1][2]] == [1, 2, 3]
    assert ids(messages) == sorted(set(ids(messages)))  # type: ignore[type-var]
    assert all(number == data[-1]["id"] for kind, number, data in messages if kind != "done")
    assert {"id", "at", "job", "attempt", "seq"} <= set(messages[0][2][0])


def test_a_stream_goes_on_after_the_last_event(center: Center) -> None:
    claim = finished_job(center)
    place = f"/api/jobs/{claim.job_id}/events"
    everything = ids(parse(center.get(place).text))
    for cut in range(len(everything)):
        headers = center.headers | {"Last-Event-ID": str(everything[cut])}
        by_header = center.client.get(place, headers=headers)
        assert ids(parse(by_header.text)) == everything[cut + 1 :]
        assert ids(parse(center.get(f"{place}?after={everything[cut]}").text)) == everything[cut + 1 :]


def test_superseded_steps_are_left_out_of_a_replay(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    first = worker.must_claim()
    first.begin()
    first.beat(first.step(1), first.step(2))
    first.end("crashed", exit={"signal": 9})
    second = worker.must_claim()
    second.begin()
    second.beat(second.step(1))
    second.succeed()
    data = parse(center.get(f"/api/jobs/{first.job_id}/events").text)
    assert [(one["attempt"], one["step"]) for kind, _, rows in data if kind == "step" for one in rows] == [(2, 1)]


def test_a_start_before_what_is_kept_begins_with_a_reset(center: Center) -> None:
    claim = finished_job(center)
    with center.database.write() as session:
        assert events.prune(session, utc_now()) > 0
    place = f"/api/jobs/{claim.job_id}/events"
    assert parse(center.get(f"{place}?after=1").text)[0][0] == "reset"
    assert parse(center.get(place).text)[0][0] == "state"


@pytest.mark.parametrize("query", ["topics=odd", "jobs=x", "jobs=1,,y", "after=-1"])
def test_a_wrong_question_is_refused(center: Center, query: str) -> None:
    assert center.get(f"/api/events?{query}").status_code == 422


async def take(source: AsyncIterator[bytes], until: str) -> str:
    text = ""
    async for chunk in source:
        text += chunk.decode()
        if until in text:
            break
    return text


def test_topics_and_jobs_share_one_stream(center: Center) -> None:
    claim = finished_job(center)
    wanted = events.Wanted(jobs=frozenset({claim.job_id}), topics=frozenset({"queue", "dataset"}))

    async def look() -> str:
        hub = Hub(asyncio.get_running_loop(), newest_id=10_000)
        return await take(streaming.stream(hub, center.database, wanted, 0), "succeeded")

    kinds = {kind for kind, _, _ in parse(asyncio.run(look()))}
    assert {"dataset", "queue", "state", "step"} <= kinds and "node" not in kinds


def test_a_client_behind_the_ring_reads_on_from_the_table(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    total = RING + 900

    async def look() -> list[object]:
        with center.database.read() as session:
            cursor = events.newest_id(session)
        hub = Hub(asyncio.get_running_loop(), cursor)
        center.database.publish = hub.publish
        wanted = events.Wanted(jobs=frozenset({claim.job_id}))
        source = streaming.stream(hub, center.database, wanted, cursor)
        await anext(source)
        for start in range(1, total, 1000):
            beat = [claim.step(step) for step in range(start, min(start + 1000, total + 1))]
            await asyncio.to_thread(claim.beat, *beat)
        return [one["step"] for _, _, data in parse(await take(source, f'"step":{total},')) for one in data]

    assert asyncio.run(look()) == list(range(1, total + 1))


def entry(number: int) -> Entry:
    return Entry(number, "step", 1, None, False, b"{}")


def test_the_hub_hands_out_what_came_after_the_cursor() -> None:
    async def look() -> None:
        hub = Hub(asyncio.get_running_loop(), 5)
        assert hub.since(4) is None and hub.since(5) == []
        hub._append([entry(7), entry(9)])
        assert [one.id for one in hub.since(5) or []] == [7, 9]
        assert [one.id for one in hub.since(8) or []] == [9]
        assert hub.since(9) == [] and hub.since(3) is None

    asyncio.run(look())


def test_closing_the_hub_ends_streams_that_wait(center: Center) -> None:
    async def look() -> None:
        hub = Hub(asyncio.get_running_loop(), 10_000)
        source = streaming.stream(hub, center.database, events.Wanted(topics=frozenset({"queue"})), 10_000)
        assert await anext(source) == streaming.PING
        rest = asyncio.ensure_future(anext(source, None))
        await asyncio.sleep(0)
        hub.close()
        assert await asyncio.wait_for(rest, 2) is None

    asyncio.run(look())


def test_a_client_hears_a_ping_although_others_are_busy(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PING_S", 0.05)

    async def look() -> bytes:
        hub = Hub(asyncio.get_running_loop(), 10_000)
        source = streaming.stream(hub, center.database, events.Wanted(topics=frozenset({"queue"})), 10_000)
        await anext(source)
        ping = asyncio.ensure_future(anext(source))
        for number in range(10_001, 10_101):
            hub._append([entry(number)])
            await asyncio.sleep(0.01)
            if ping.done():
                return ping.result()
        return b""

    assert asyncio.run(look()) == streaming.PING


def test_a_start_beyond_the_newest_event_begins_with_what_comes_next(center: Center) -> None:
    claim = finished_job(center)
    text = center.get(f"/api/jobs/{claim.job_id}/events?after=99999999").text
    assert [kind for kind, _, _ in parse(text)] == ["done"]
