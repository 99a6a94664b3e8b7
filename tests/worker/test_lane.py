import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.waiting import until
from tests.worker.conftest import fake_trainer
from tests.worker.fake_server import FakeServer
from worker import lane as lane_module
from worker.lane import Lane

MakeLane = Callable[..., Lane]


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Iterator[MakeLane]:
    stopped, built = threading.Event(), []

    def build(**plan: Any) -> Lane:
        built.append(Lane(settings, [], stopped.is_set, fake_trainer(tmp_path, **plan)))
        return built[-1]

    yield build
    stopped.set()
    for lane in built:
        lane.close()


def test_a_lane_claims_until_nothing_fits(server: FakeServer, make: MakeLane) -> None:
    for job_id in (1, 2, 3):
        server.offer(job_id, claim_token=f"token-{job_id}")
    make(steps=1).work()
    assert [ending["outcome"] for ending in server.ends] == ["succeeded"] * 3
    assert server.tokens == {"Bearer secret"}


def test_two_wake_ups_never_run_two_jobs_at_once(server: FakeServer, make: MakeLane) -> None:
    lane = make(steps=1000)
    server.offer(1)
    first = threading.Thread(target=lane.work)
    first.start()
    until(lambda: server.events)
    server.offer(2, claim_token="token-2")
    lane.work()
    assert len(server.claims) == 1
    server.commands.append("stop")
    first.join()
    assert len(server.ends) == 2


def test_a_wake_up_while_the_last_claim_is_answered_is_not_lost(
    server: FakeServer, make: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = make(steps=1)
    asked = lane._client.claim

    def claim_and_be_woken(node_id: int, name: str, key: str) -> Any:
        answer = asked(node_id, name, key)
        if answer is None and not server.ends:
            server.offer()
            threading.Thread(target=lane.work).run()
        return answer

    monkeypatch.setattr(lane._client, "claim", claim_and_be_woken)
    lane.work()
    assert len(server.ends) == 1


def test_a_lane_looks_for_work_by_itself(server: FakeServer, make: MakeLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "POLL_S", 0.1)
    lane = make(steps=1)
    server.away = True
    lane.start()
    until(lambda: server.refusals)
    server.away = False
    server.offer()
    until(lambda: server.ends)


def test_a_lane_that_is_not_known_any_more_registers_anew(
    server: FakeServer, make: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = make(steps=1)
    lane.work()
    monkeypatch.setattr(server, "_node", lambda parts, body: (404, {}))
    lane.work()
    monkeypatch.undo()
    lane.work()
    assert len(server.nodes) == 2


def test_a_draining_lane_claims_nothing(server: FakeServer, settings: Settings) -> None:
    server.offer()
    lane = Lane(settings, [], lambda: True)
    lane.work()
    lane.close()
    assert len(server.claims) == 1


def test_a_worker_that_cannot_write_says_so(server: FakeServer, make: MakeLane, tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("a file where the folder should be")
    server.offer()
    make().work()
    assert (server.ends[0]["outcome"], server.ends[0]["error"]["code"]) == ("failed", "worker_fault")


def test_a_lane_that_may_not_join_asks_as_rarely_as_it_looks_for_work(
    server: FakeServer, make: MakeLane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"error": {"code": "other_version", "message": "another version"}}
    monkeypatch.setattr(server, "_node", lambda parts, body: (409, told))
    lane = make(steps=1)
    lane.work()
    assert (lane._last_problem, caplog.text) == ("", "")
    monkeypatch.undo()
    server.offer()
    lane.work()
    assert len(server.ends) == 1
