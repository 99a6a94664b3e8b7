"""One record in a browser: its tokens, the way to others by key, the search, and a repaired version by the form."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.factories import jsonl, record

TOKENS = """[...document.querySelectorAll("#token-box .part")].flatMap((part) =>
  [...part.querySelectorAll("i")].flatMap((token) =>
    Array(Number(token.dataset.times || 1)).fill([part.classList[1], Number(token.title.match(/id (\\d+)/)[1])])))"""


@pytest.fixture(scope="module")
def dataset(server: Server) -> int:
    """Six lines: 2 is no JSON, 3 and 5 have a bare number for an answer."""
    good = [record(f"Tell me of {place}.", f"It is {place}, a town") for place in ("Rome", "Bonn", "Oslo")]
    body = jsonl(good[0]) + b"nope\n" + jsonl(record("How many?", 596), good[1], record("And now?", 12), good[2])
    with server.client() as client:
        sent: dict[str, Any] = client.put("/api/datasets/browsed.jsonl", content=body).json()
    return int(sent["id"])


def line(number: int) -> re.Pattern[str]:
    return re.compile(rf"/records/{number}(\?.*)?$")


def test_each_token_is_marked_as_the_api_says(page: Page, server: Server, api: httpx.Client, dataset: int) -> None:
    query = "records/1?max_length=30"
    tokens = api.get(f"/api/datasets/{dataset}/{query}").json()["tokens"]
    page.goto(f"{server.url}/datasets/{dataset}/{query}")
    assert page.evaluate(TOKENS) == [[token["role"], token["id"]] for token in tokens]
    assert {token["role"] for token in tokens} > {"context", "cut"}


def test_the_id_of_a_token_is_told_to_mouse_and_keyboard(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}/records/1")
    page.locator("#token-box i").nth(4).hover()
    expect(page.locator("#readout")).to_have_text(re.compile(r"^Token 4 · id \d+ · context"))
    page.locator("#token-box").press("End")
    page.locator("#token-box").press("ArrowLeft")
    expect(page.locator("#readout")).to_have_text(re.compile(r"trained · “<\|im_end\|>”$"))


def test_keys_lead_to_the_next_and_the_previous_record(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}/records/1")
    for key, number in (("j", 2), ("ArrowRight", 3), ("k", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        page.wait_for_url(line(number))


def test_keys_stay_within_the_kind_of_finding(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}?of=bare_count")
    page.locator("#findings .list a").first.click()
    page.wait_for_url(line(3))
    page.keyboard.press("j")
    page.wait_for_url(line(5))
    expect(page.locator(".meta")).to_contain_text("2 of 2 records")
    page.keyboard.press("j")
    expect(page.get_by_text("There is no further record")).to_be_visible()


def test_what_is_typed_into_the_search_shows_its_records(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}")
    page.get_by_label("Search the records").press_sequentially("bonn")
    expect(page.locator("#records .list li")).to_have_count(1)
    page.locator("#records .list a").click()
    page.wait_for_url(line(4))


def test_the_way_back_leads_to_the_search_as_it_was_left(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}?of=bare_count")
    page.get_by_label("Search the records").fill("and")
    page.get_by_label("Kind of finding").select_option("bare_count")
    expect(page.locator("#records .list li")).to_have_count(1)
    page.locator("#records .list a").click()
    page.wait_for_url(line(5))
    page.go_back()
    expect(page.get_by_label("Search the records")).to_have_value("and")
    expect(page.get_by_label("Kind of finding")).to_have_value("bare_count")
    expect(page.locator("#records .list li")).to_have_count(1)
    assert "of=bare_count" in page.url


def test_another_system_prompt_and_length_are_shown_at_once(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}/records/1")
    page.get_by_text("Model, system prompt and length").click()
    page.get_by_label("System prompt").fill("Speak as a pirate.")
    page.get_by_label("Longest example").fill("16")
    page.get_by_role("button", name="Show it so").click()
    expect(page.locator(".turn.system")).to_contain_text("Speak as a pirate.")
    expect(page.locator("[data-count=target]")).to_have_text("0")


def test_a_repaired_version_is_made_by_the_form_and_shows_what_changed(
    page: Page, server: Server, dataset: int
) -> None:
    page.goto(f"{server.url}/datasets/{dataset}")
    page.locator("#kind-bare_count").get_by_label("Repair").check()
    page.locator("#kind-not_json").get_by_label("Exclude").check()
    page.get_by_role("button", name="Make a new version").click()
    expect(page.locator("#versions")).to_contain_text("version 2, shown here")
    expect(page.locator("#kind-bare_count")).to_have_count(0)
    page.get_by_role("link", name="What changed").click()
    expect(page.locator(".diff ins").first).to_contain_text("count")
    expect(page.locator(".diff del").first).to_have_text("nope")
