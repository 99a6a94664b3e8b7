from pathlib import Path

import pytest

from app.config import Settings
from tests.worker.fake_server import FakeServer
from worker.client import Client, Fenced, JobClient, Pause, Refused, ServerAway
from worker.messages import Claim


@pytest.fixture
def job(server: FakeServer, client: Client) -> JobClient:
    server.offer()
    given = client.claim(1, "cpu", "key")
    assert isinstance(given, Claim)
    return client.job(given.job_id, given.attempt, given.claim_token)


def test_nothing_to_do_is_none(client: Client) -> None:
    assert client.claim(1, "cpu", "key") is None


def test_a_new_token_is_used_without_a_restart(server: FakeServer, client: Client, settings: Settings) -> None:
    client.claim(1, "cpu", "key")
    settings.worker_token_path.write_text("another")
    client.claim(1, "cpu", "key")
    assert server.tokens == {"Bearer secret", "Bearer another"}


def test_without_a_token_the_worker_waits(client: Client, settings: Settings) -> None:
    settings.worker_token_path.unlink()
    with pytest.raises(ServerAway, match="no worker token"):
        client.claim(1, "cpu", "key")


def test_nobody_at_the_address_is_waited_for(tmp_path: Path, settings: Settings) -> None:
    client = Client("http://127.0.0.1:9", settings.worker_token_path)
    with pytest.raises(ServerAway, match="ConnectError"):
        client.claim(1, "cpu", "key")
    client.close()


def test_somebody_else_at_the_address_is_waited_for(
    server: FakeServer, job: JobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "answer", lambda *request: (200, b"<html>Welcome</html>"))
    with pytest.raises(ServerAway, match="did not answer with JSON"):
        job.beat([])


def test_a_lost_claim_is_told_from_another_conflict(server: FakeServer, job: JobClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    with pytest.raises(Refused, match="other bytes"):
        job.put_file("adapter/file", tmp_path / "file", "0" * 64)
    server.fencing = True
    with pytest.raises(Fenced):
        job.put_file("adapter/file", tmp_path / "file", "0" * 64)


def test_a_job_that_is_unknown_is_lost(server: FakeServer, job: JobClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answer", lambda *request: (404, {"error": {"code": "not_found", "message": "no"}}))
    with pytest.raises(Fenced):
        job.beat([])


def test_a_pause_is_over_at_once_after_a_success() -> None:
    pause = Pause(first=50, longest=60)
    pause.failed()
    waiting = pause.over
    pause.worked()
    assert (waiting, pause.over) == (False, True)
