"""Lists: they take limit and after, and ask the database no more often for many lines than for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import col, func, select

from app.columns import utc_now
from app.models import Event
from app.services import events
from tests.factories import Center


@contextmanager
def asked(center: Center) -> Iterator[list[str]]:
    """The statements that were read with meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(center.database.reader, "before_cursor_execute", note)
    yield statements
    event.remove(center.database.reader, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/api/jobs", "/jobs", "/api/jobs?state=queued"])
def test_a_long_list_asks_no_more_than_a_short_one(center: Center, path: str) -> None:
    dataset = center.make_job()["dataset_ids"][0]
    with asked(center) as for_one:
        assert center.get(path).status_code == 200
    for _ in range(24):
        center.make_job(dataset)
    with asked(center) as for_many:
        assert center.get(path).status_code == 200
    # The sweeper asks now and then as well; a question for each line would be 24 more.
    assert len(for_many) < len(for_one) + 10


def test_queued_jobs_show_their_places_in_a_list_as_they_do_alone(center: Center) -> None:
    first = center.make_job()
    rest = [center.make_job(first["dataset_ids"][0], priority=one) for one in ("low", "urgent", "normal")]
    listed = {one["id"]: one for one in center.get("/api/jobs").json()["items"]}
    assert [listed[one["id"]]["position"] for one in [first, *rest]] == [2, 4, 1, 3]
    assert all(center.job(number) == one for number, one in listed.items())


def walked(center: Center, path: str) -> list[dict[str, Any]]:
    """All items, two at a time."""
    found, after = [], ""
    while True:
        page = center.get(f"{path}?limit=2{after}").json()
        assert len(page["items"]) <= 2
        found += page["items"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


def test_parts_of_a_job_come_in_pages(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    for step in range(1, 6):
        claim.beat(claim.event("sample", step=step, prompt_id=step, prompt="p", answer="a"))
        claim.checkpoint(step)
    for _ in range(3):
        center.act(claim.job_id, "save")
    place = f"/api/jobs/{claim.job_id}"
    assert [one["prompt_id"] for one in walked(center, f"{place}/samples")] == [1, 2, 3, 4, 5]
    assert walked(center, f"{place}/checkpoints") == center.get(f"{place}/checkpoints").json()["items"]
    assert [one["action"] for one in walked(center, f"{place}/history")] == ["create", "save", "save", "save"]


def test_nodes_come_in_pages(center: Center) -> None:
    names = [f"node-{number}" for number in range(5)]
    for name in names:
        center.worker(node=name)
    assert [one["name"] for one in walked(center, "/api/nodes")] == names


def test_evaluations_keep_to_the_range_asked_for(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(*[claim.event("eval", step=step, loss=float(step)) for step in (2, 4, 6)])
    answer = center.get(f"/api/jobs/{claim.job_id}/metrics?from_step=3&to_step=5").json()
    assert answer["eval"] == {"step": [4], "loss": [4.0]}


def test_steps_before_and_after_a_state_keep_their_order(center: Center) -> None:
    center.make_job()
    claim = center.worker().must_claim()
    told = [claim.event("state", state="claimed", phase="loading", resume_step=0), claim.step(1), claim.step(2)]
    claim.beat(
        *told, claim.event("state", state="running", phase="saving"), claim.step(3), claim.event("log", text="x")
    )
    with center.database.read() as session:
        rows = session.exec(select(Event).where(col(Event.seq) > 0).order_by(col(Event.id))).all()
    assert [(row.seq, row.kind) for row in rows] == list(
        enumerate(["state", "step", "step", "state", "step", "log"], start=1)
    )
    assert center.job(claim.job_id)["step"] == 3


def test_pruning_takes_a_bounded_number_at_once(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PRUNE_AT_ONCE", 3)
    with center.database.write() as session:
        for age in (9, 8, 7, 6, 5, 1):
            events.record(session, "telemetry", {"age": age}, at=utc_now() - timedelta(days=age))
    gone = []
    for _ in range(3):
        with center.database.write() as session:
            gone.append(events.prune(session, utc_now() - timedelta(days=2), ("telemetry",)))
    with center.database.read() as session:
        left = session.exec(select(func.count()).where(Event.kind == "telemetry")).one()
    assert (gone, left) == ([3, 2, 0], 1)
