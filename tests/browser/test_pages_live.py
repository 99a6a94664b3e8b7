"""What only a browser can tell of the pages: size on the wire and on a phone, outages, life without script."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import sign_in
from tests.conftest import Server
from tests.factories import rows

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
BUDGET = 150_000


@pytest.fixture(scope="module")
def job(server: Server) -> int:
    """A job that waits, so that its pages stay as they are."""
    with server.client() as client:
        dataset = client.put("/api/datasets/few.jsonl", content=rows(30, "pages")).json()
        body = {"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "name": "seen", "config": {"max_steps": 2}}
        job_id: int = client.post("/api/jobs", json=body).json()["id"]
        return job_id


@pytest.fixture
def phone(browser: Browser, server: Server) -> Iterator[Page]:
    context = sign_in(browser, server, **PHONE)
    yield context.new_page()
    context.close()


def test_a_page_costs_less_than_its_budget_on_the_wire(page: Page, server: Server, job: int) -> None:
    sizes: list[int] = []
    page.on("response", lambda one: sizes.append(int(one.headers.get("content-length", 0))))
    page.goto(f"{server.url}/jobs/{job}")
    expect(page.locator("#link")).to_have_text("Live")
    assert 50_000 < sum(sizes) < BUDGET


def test_on_a_phone_no_page_scrolls_sideways(phone: Page, server: Server, job: int) -> None:
    for path in (
        "/",
        "/jobs",
        "/jobs/new",
        f"/jobs/{job}",
        "/datasets",
        "/datasets/1",
        "/datasets/1/records/1",
        "/adapters",
        "/nodes",
        "/queue",
    ):
        phone.goto(server.url + path)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_a_stream_that_cannot_be_opened_at_first_is_tried_again(page: Page, server: Server, job: int) -> None:
    asked: list[str] = []

    def refuse_twice(route: Route) -> Any:
        asked.append(route.request.url)
        return route.fulfill(status=204) if len(asked) < 3 else route.continue_()

    page.route("**/api/events*", refuse_twice)
    page.goto(f"{server.url}/jobs/{job}")
    expect(page.locator("#link")).to_have_text("Live")
    assert len(asked) >= 3


def test_a_new_dataset_appears_in_the_list_without_a_reload(page: Page, server: Server, api: httpx.Client) -> None:
    page.goto(f"{server.url}/datasets")
    expect(page.locator("#link")).to_have_text("Live")
    api.put("/api/datasets/from-afar.jsonl", content=rows(5, "afar"))
    expect(page.locator("#rows")).to_contain_text("from-afar.jsonl")


def test_an_upload_can_be_cancelled(page: Page, server: Server) -> None:
    page.route("**/api/datasets/*", lambda _route: None)  # the answer never comes
    page.goto(f"{server.url}/datasets")
    page.set_input_files("input[type=file]", {"name": "long.jsonl", "mimeType": "text/plain", "buffer": rows(9)})
    page.click("[data-upload-cancel]")
    expect(page.locator("[data-upload-text]")).to_have_text("Cancelled. Nothing was kept.")
    expect(page.locator(".drop")).to_be_visible()


def test_the_theme_that_was_chosen_stays(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.click("[data-theme-toggle]")
    page.click("[data-theme-toggle]")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_keyboard_leads_to_a_new_job_and_lists_its_keys(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/jobs")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url(f"{server.url}/jobs/new")


def test_without_script_a_job_is_added_seen_and_stopped(browser: Browser, server: Server, job: int) -> None:
    context = sign_in(browser, server, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/jobs/new")
    page.fill("#f-name", "plain")
    page.click("text=Add job")
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator("h1")).to_have_text("plain")
    page.click("#job-head .btn.stop")
    expect(page.locator("#job-head .pill")).to_have_text(re.compile("Stopping|Stopped"))
    context.close()


def test_a_phone_reaches_every_page_and_the_theme(phone: Page, server: Server) -> None:
    for name in ("Queue", "Inbox", "Adapters", "Recipes", "Nodes", "Trash"):
        phone.goto(server.url)
        phone.click(".tabs >> text=More")
        phone.click(f"#more >> text={name}")
        phone.wait_for_url(f"{server.url}/{name.lower()}")
        expect(phone.locator(".tabs [aria-current]")).to_have_text("More")
    phone.click(".tabs >> text=More")
    phone.click("#more >> text=Theme")
    expect(phone.locator("html")).to_have_attribute("data-theme", "light")


def test_a_search_in_the_log_that_finds_nothing_says_so(page: Page, server: Server, job: int) -> None:
    page.goto(f"{server.url}/jobs/{job}")
    page.evaluate("live.tell('log', [{ level: 'info', at: '2026-01-02T03:04:05Z', text: 'one line' }])")
    page.fill("[data-log-find]", "nowhere")
    expect(page.locator("[data-log-none]")).to_be_visible()
    page.fill("[data-log-find]", "one")
    expect(page.locator("[data-log-none]")).to_be_hidden()


CONTRAST = """(hint) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = [...pen.getImageData(0, 0, 1, 1).data].map((one) => linear(one / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  // Each is painted over what is there: the key's ground over that of its button.
  light(getComputedStyle(hint.parentElement).backgroundColor);
  const [ground, ink] = [light(getComputedStyle(hint).backgroundColor), light(getComputedStyle(hint).color)];
  return (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_key_on_a_button_can_be_read(page: Page, server: Server, theme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=theme)
    page.goto(f"{server.url}/queue")
    hint = page.locator(".btn.primary kbd")
    assert hint.evaluate(CONTRAST) >= 4.5
    hint.hover()
    assert hint.evaluate(CONTRAST) >= 4.5


def test_a_toast_covers_no_button_of_the_queue(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 1280, "height": 560})
    page.goto(f"{server.url}/queue")
    page.click("#add-hours summary")
    add = page.locator("#add-hours button")
    add.scroll_into_view_if_needed()
    page.evaluate("toast('No job begins between 22:00 and 06:00, whatever is waited for by whom.')")
    box, told = add.bounding_box(), page.locator(".toast").bounding_box()
    assert box and told and told["x"] + told["width"] < box["x"]
