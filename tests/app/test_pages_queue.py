import json
import re
from typing import Any

import pytest

from tests.factories import Center, rows


@pytest.fixture
def three(center: Center) -> Center:
    """Jobs 1, 2 and 3 wait in that order."""
    dataset = center.upload(rows(30))["id"]
    for name in ("one", "two", "three"):
        center.make_job(dataset, name=name)
    return center


def waiting(center: Center, path: str = "/queue/_list") -> list[int]:
    return [int(one) for one in re.findall(r'<li id="queued-(\d+)"', center.get(path).text)]


def send(center: Center, path: str, **fields: Any) -> Any:
    return center.client.post(path, headers=center.headers, data=fields, follow_redirects=False)


def test_the_page_lists_jobs_in_the_order_of_claiming(three: Center) -> None:
    three.act(3, "priority", {"priority": "high"})
    assert waiting(three) == waiting(three, "/_queue") == [3, 1, 2]


@pytest.mark.parametrize(
    ("job", "ways", "order"),
    [
        (3, ["first"], [3, 1, 2]),
        (3, ["up"], [1, 3, 2]),
        (1, ["down"], [2, 1, 3]),
        (1, ["down", "down"], [2, 3, 1]),
        (1, ["up", "down"], [2, 1, 3]),
        (3, ["down"], [1, 2, 3]),
    ],
)
def test_a_button_moves_a_job_from_the_place_it_has(three: Center, job: int, ways: list[str], order: list[int]) -> None:
    for way in ways:
        assert send(three, f"/jobs/{job}/_move", way=way).status_code == 204
    assert waiting(three) == order == [one["id"] for one in three.get("/api/queue").json()["items"]]


def test_a_way_nobody_knows_is_refused(three: Center) -> None:
    assert send(three, "/jobs/2/_move").status_code == send(three, "/jobs/2/_move", way="left").status_code == 422


def test_the_ends_of_the_queue_have_no_button_beyond_them(three: Center) -> None:
    shown = three.get("/queue/_list").text
    off = re.findall(r'id="(\w+)-(\d)"[^>]* disabled>', shown)
    assert off == [("first", "1"), ("up", "1"), ("down", "3")]


def test_without_script_a_move_and_a_priority_lead_back_to_the_queue(three: Center) -> None:
    moved, raised = send(three, "/jobs/3/move", way="first"), send(three, "/jobs/2/priority", priority="urgent")
    assert [(one.status_code, one.headers["location"]) for one in (moved, raised)] == [(303, "/queue")] * 2
    assert waiting(three) == [2, 3, 1]


def test_a_priority_nobody_knows_is_refused(three: Center) -> None:
    assert send(three, "/jobs/1/_priority", priority="vip").status_code == 422


def test_pause_all_is_said_and_undone(three: Center) -> None:
    three.worker()
    answer = send(three, "/queue/_pause")
    assert set(json.loads(answer.headers["hx-trigger"])) == {"toast", "state", "queue", "node"}
    assert three.get("/api/queue").json()["paused"] is True
    assert "Resume all" in three.get("/queue/_opening").text and ">Paused</a>" in three.get("/_queue").text
    assert "The queue is paused" in three.get("/queue/_list").text
    send(three, "/queue/open")
    assert "Pause all" in three.get("/queue/_opening").text


def test_quiet_hours_are_added_and_removed(three: Center) -> None:
    send(three, "/queue/add_hours", **{"from": "22:00", "to": "06:30", "days": ["mon", "fri"], "time_zone": ""})
    assert three.get("/api/queue").json()["quiet_hours"][0]["days"] == ["mon", "fri"]
    shown = three.get("/queue/_hours").text
    assert "22:00 – 06:30" in shown and "Mon, Fri" in shown
    named = re.findall(r'name="hours" value="([^"]*)"', shown)[0]
    send(three, "/queue/remove_hours", hours=named)
    assert three.get("/api/queue").json()["quiet_hours"] == []


def test_quiet_hours_of_a_whole_day_are_told_as_such(three: Center) -> None:
    answer = send(three, "/queue/_add_hours", **{"from": "10:00", "to": "10:00", "days": ["mon"]})
    assert "from 10:00 on for a whole day" in answer.headers["hx-trigger"]


def test_quiet_hours_that_are_none_are_refused_in_words(three: Center) -> None:
    answer = send(three, "/queue/_add_hours", **{"from": "25:00", "to": "06:00", "days": ["mon"]})
    assert answer.status_code == 422
    assert "from" in json.loads(answer.headers["hx-trigger"])["toast"]["text"]


def test_a_queued_job_says_what_it_waits_for(three: Center) -> None:
    three.make_job(1, name="last", depends_on=[2])
    assert "Waits for job 2 to succeed" in three.get("/queue/_list").text
