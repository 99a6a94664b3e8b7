"""`trainctl job` as it is typed, with the app in this process at the other end."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from app import job_client
from app.cli import cli
from tests.factories import Center, rows

Type = Callable[..., list[str]]


@pytest.fixture
def typed(center: Center, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command and returns the lines that it prints."""

    class Line:
        def __init__(self, **_: Any) -> None: ...

        def request(self, method: str, path: str, **more: Any) -> Any:
            return center.client.request(method, path, headers=center.headers, **more)

        def close(self) -> None: ...

    monkeypatch.setattr(job_client.httpx, "Client", Line)

    def run(*words: str) -> list[str]:
        done = CliRunner().invoke(cli, [*words, "--data-dir", str(center.app.state.settings.data_dir)])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    return run


def test_the_history_tells_all_that_was_done_and_to_what(center: Center, typed: Type) -> None:
    dataset = center.upload(rows(30))["id"]
    first, second = (center.make_job(dataset, name=name)["id"] for name in ("one", "two"))
    center.act(second, "move", {"before": first})
    center.act(second, "move", {"position": 2})
    center.act(second, "priority", {"priority": "high"})
    told = [line.split(maxsplit=2)[1:] for line in typed("job", "history", str(second))]
    assert told[0] == ["api", "added it"]
    assert told[1:3] == [
        ["api", f"moved it in the queue, before job {first}"],
        ["api", "moved it in the queue, to place 2"],
    ]
    assert told[3:] == [["api", "changed its priority to high"]]


def test_a_long_history_and_a_long_list_are_printed_to_their_end(
    center: Center, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_client, "PAGE", 2)
    dataset = center.upload(rows(30))["id"]
    made = [center.make_job(dataset)["id"] for _ in range(5)]
    for priority in ("high", "low", "urgent", "normal"):
        center.act(made[0], "priority", {"priority": priority})
    assert [int(line.split()[0]) for line in typed("job", "list")] == made[::-1]
    lines = typed("job", "history", str(made[0]))
    assert len(lines) == 5 and lines[-1].endswith("changed its priority to normal")


def test_more_than_a_page_of_fifty_is_shown(center: Center, typed: Type) -> None:
    job_id = center.make_job()["id"]
    for priority in ("high", "low") * 30:
        center.act(job_id, "priority", {"priority": priority})
    assert len(typed("job", "history", str(job_id))) == 61


def test_quiet_hours_are_set_and_taken_away(center: Center, typed: Type) -> None:
    typed("queue", "quiet", "22:00-07:00")
    [hours] = center.get("/api/queue").json()["quiet_hours"]
    assert (hours["from"], hours["to"]) == ("22:00", "07:00")
    typed("queue", "quiet", "none")
    assert center.get("/api/queue").json()["quiet_hours"] == []


def test_a_node_is_shown_drained_and_forgotten(center: Center, typed: Type) -> None:
    worker = center.worker(node="workshop")
    dataset = center.upload(rows(30))["id"]
    job = center.make_job(dataset)["id"]
    worker.claim()
    number = center.get("/api/nodes").json()["items"][0]["id"]
    shown, lane = typed("node")
    assert shown.split() == [str(number), "online", "workshop"]
    assert lane.split(maxsplit=1) == ["online", f"workshop/cpu, job {job}"]
    assert typed("node", "drain", "workshop")[0].split() == [str(number), "draining", "workshop"]
    assert typed("node", "undrain", str(number))[0].split() == [str(number), "online", "workshop"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("queue", "quiet"), "Say when: trainctl queue quiet 22:00-07:00, or none."),
        (("queue", "quiet", "noon-1"), "22:00"),
        (("node", "drain"), "Name the node: trainctl node drain NAME."),
        (("node", "drain", "nowhere"), "There is no node nowhere"),
        (("job", "move", "1", "0"), "must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    center: Center, typed: Type, words: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(cli, [*words, "--data-dir", str(center.app.state.settings.data_dir)])
    assert done.exit_code == 1 and told in done.stderr


def test_a_command_calls_itself_so_in_the_history(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    class Line:
        def __init__(self, headers: dict[str, str], **_: Any) -> None:
            given.update(headers)

    monkeypatch.setattr(job_client.httpx, "Client", Line)
    job_client.ControlCenter(center.app.state.settings)
    job = center.make_job()["id"]
    center.client.post(f"/api/jobs/{job}/cancel", headers=given)
    assert center.get(f"/api/jobs/{job}/history").json()["items"][-1]["who"] == "trainctl"
