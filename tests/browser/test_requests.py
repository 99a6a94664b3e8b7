"""Buttons of every page: each click is sent once, and one that finds no server says so."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import sign_in
from tests.conftest import Server
from tests.factories import rows

GONE = "The control center does not answer; nothing was changed."


@pytest.fixture
def waiting(api: httpx.Client) -> Iterator[int]:
    """A job that waits in a queue that is paused."""
    api.put("/api/queue", json={"paused": True})
    dataset = api.put("/api/datasets/pressed.jsonl", content=rows(30, "pressed")).json()["id"]
    body = {"dataset_id": dataset, "model": "tiny-qwen3-vl", "name": "pressed", "config": {"max_steps": 2}}
    job: int = api.post("/api/jobs", json=body).json()["id"]
    yield job
    api.post(f"/api/jobs/{job}/cancel")
    api.put("/api/queue", json={"paused": False})


@pytest.fixture
def cut(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that may lose its server."""
    context = sign_in(browser, server)
    yield context.new_page()
    context.close()


@pytest.mark.usefixtures("waiting")
def test_a_double_click_is_sent_once_and_presses_nothing_that_comes_in_its_place(
    page: Page, server: Server, api: httpx.Client
) -> None:
    page.goto(f"{server.url}/queue")
    page.locator("#pause-all").dblclick(delay=80)
    expect(page.locator("#opening .pill")).to_have_text("Open")
    page.wait_for_timeout(300)
    assert api.get("/api/queue").json()["paused"] is False


def test_a_button_whose_request_is_under_way_sends_no_second_one(page: Page, server: Server, waiting: int) -> None:
    held: list[Route] = []
    page.route("**/queue/_open", lambda route: held.append(route))  # noqa: PLW0108
    page.goto(f"{server.url}/queue")
    page.click("#pause-all")
    page.wait_for_function("document.querySelector('#opening .htmx-request')")
    page.click("#pause-all")
    page.wait_for_timeout(300)
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#opening .pill")).to_have_text("Open")


def test_a_form_without_script_of_its_own_is_sent_once(cut: Page, server: Server, api: httpx.Client) -> None:
    api.put("/api/datasets/twice.jsonl", content=rows(30, "twice"))
    held: list[Route] = []
    cut.route(re.compile(r"/jobs$"), lambda route: held.append(route))  # noqa: PLW0108
    cut.goto(f"{server.url}/jobs/new")
    twice = "(button) => { button.click(); setTimeout(() => button.click(), 200); }"
    cut.get_by_role("button", name="Add job").evaluate(twice)
    cut.wait_for_timeout(600)
    assert len(held) == 1
    held[0].abort()


def test_the_question_before_a_stop_stays_after_a_double_click(page: Page, server: Server, waiting: int) -> None:
    page.goto(f"{server.url}/jobs/{waiting}")
    page.locator("#job-head .btn.stop").dblclick(delay=80)
    page.wait_for_timeout(300)
    expect(page.locator("#dialog")).to_be_visible()


def test_a_button_says_when_the_control_center_does_not_answer(cut: Page, server: Server, waiting: int) -> None:
    cut.goto(f"{server.url}/queue")
    cut.context.set_offline(True)
    cut.click("#pause-all")
    expect(cut.locator("#toasts")).to_have_text(GONE)
    cut.locator(f"#queued-{waiting} select").select_option("urgent")
    expect(cut.locator("#toasts .toast")).to_have_count(2)
    expect(cut.locator(f"#queued-{waiting} select")).to_have_value("normal")


def test_a_question_that_cannot_be_asked_says_so_too(cut: Page, server: Server, waiting: int) -> None:
    cut.goto(f"{server.url}/jobs/{waiting}")
    cut.context.set_offline(True)
    cut.click("#job-head .btn.stop")
    expect(cut.locator("#toasts")).to_have_text(GONE)
