"""The queue under a person's hands: dragged, moved by keys, paused as a whole."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.factories import rows

NAMES = ("first of three", "second of three", "third of three")
MORE = [f"number {number} of more" for number in range(4, 7)]


@pytest.fixture
def three(page: Page, server: Server, api: httpx.Client) -> Iterator[list[int]]:
    """The page of a queue that is paused, with three jobs."""
    api.put("/api/queue", json={"paused": True})
    dataset = api.put("/api/datasets/queued.jsonl", content=rows(30, "queued")).json()["id"]
    body = {"dataset_id": dataset, "model": "tiny-qwen3-vl", "config": {"max_steps": 2}}
    ids: list[int] = [api.post("/api/jobs", json=body | {"name": name}).json()["id"] for name in NAMES]
    page.goto(f"{server.url}/queue")
    expect(page.locator("#link")).to_have_text("Live")
    yield ids
    for job_id in ids:
        api.post(f"/api/jobs/{job_id}/cancel")
    api.put("/api/queue", json={"paused": False})


def by_rest(api: httpx.Client) -> list[str]:
    return [job["name"] for job in api.get("/api/queue").json()["items"] if job["name"] in NAMES]


def shown(page: Page) -> list[str]:
    return [name for name in page.locator("[data-queue] .name").all_inner_texts() if name in NAMES]


def test_a_drag_reorders_the_queue_and_the_order_stays(page: Page, three: list[int], api: httpx.Client) -> None:
    target = page.locator(f"#queued-{three[0]}")
    page.locator(f"#queued-{three[2]}").drag_to(target, target_position={"x": 200, "y": 4})
    wanted = [NAMES[2], NAMES[0], NAMES[1]]
    expect(page.locator("#toasts")).to_contain_text("third of three: queued at place 1")
    assert by_rest(api) == wanted == shown(page)
    page.reload()
    assert shown(page) == wanted


def test_a_drag_across_a_priority_says_which_one_the_job_has_now(
    page: Page, three: list[int], api: httpx.Client
) -> None:
    api.post(f"/api/jobs/{three[2]}/priority", json={"priority": "low"})
    expect(page.locator(f'#queued-{three[2]}[data-priority="low"]')).to_be_visible()
    page.locator(f"#queued-{three[0]}").drag_to(page.locator(f"#queued-{three[2]}"), target_position={"x": 200, "y": 4})
    expect(page.locator("#toasts")).to_contain_text("queued at place 2, with priority low now")


def test_the_arrow_keys_move_a_job_and_the_handle_keeps_the_focus(
    page: Page, three: list[int], api: httpx.Client
) -> None:
    page.locator(f"#grip-{three[0]}").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#grip-{three[0]}")).to_have_text("2")
    expect(page.locator(f"#grip-{three[0]}")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#grip-{three[0]}")).to_have_text("3")
    assert by_rest(api) == shown(page) == [NAMES[1], NAMES[2], NAMES[0]]


@pytest.mark.parametrize("pause_ms", [0, 250])
def test_each_of_three_fast_clicks_moves_the_job(
    page: Page, three: list[int], server: Server, api: httpx.Client, pause_ms: int
) -> None:
    body = {"dataset_id": api.get("/api/jobs").json()["items"][0]["dataset_ids"][0], "model": "tiny-qwen3-vl"}
    more = [api.post("/api/jobs", json=body | {"name": name}).json()["id"] for name in MORE]
    expect(page.locator("[data-queue] > li")).to_have_count(6)
    box = page.locator(f"#down-{three[0]}").bounding_box()
    assert box is not None
    for _ in range(3):
        page.mouse.click(box["x"] + 5, box["y"] + 5)
        page.wait_for_timeout(pause_ms)
    expect(page.locator(f"#grip-{three[0]}")).to_have_text("4")
    wanted = [*three[1:], more[0], three[0], *more[1:]]
    assert [job["id"] for job in api.get("/api/queue").json()["items"]] == wanted
    for job_id in more:
        api.post(f"/api/jobs/{job_id}/cancel")


def test_a_priority_that_is_chosen_changes_the_order(page: Page, three: list[int], api: httpx.Client) -> None:
    page.locator(f"#queued-{three[1]} select").select_option("urgent")
    expect(page.locator(f"#queued-{three[1]} .pill")).to_have_text("Urgent")
    assert by_rest(api)[0] == NAMES[1]


def test_all_is_paused_and_resumed_by_one_button(page: Page, three: list[int], api: httpx.Client) -> None:
    expect(page.locator("#opening .pill")).to_have_text("Paused")
    expect(page.locator(f"#queued-{three[0]}")).to_contain_text("The queue is paused")
    page.click("#pause-all")
    expect(page.locator("#opening .pill")).to_have_text("Open")
    assert api.get("/api/queue").json()["paused"] is False
    page.click("#pause-all")
    expect(page.locator("#opening .pill")).to_have_text("Paused")
    assert api.get("/api/queue").json()["paused"] is True


def test_quiet_hours_are_set_and_taken_back(page: Page, three: list[int], api: httpx.Client) -> None:
    page.click("#add-hours summary")
    page.fill("#hours-from", "03:10")
    page.fill("#hours-to", "03:20")
    page.click("#add-hours >> text=Add >> nth=-1")
    expect(page.locator(".hours")).to_contain_text("03:10 – 03:20")
    page.click(".hours button")
    expect(page.locator(".hours")).to_have_count(0)
    assert api.get("/api/queue").json()["quiet_hours"] == []
