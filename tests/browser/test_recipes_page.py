"""Recipes in a browser: deleted, undone, begun with; and the numbers of a dataset for one of them."""

import re

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.conftest import Server
from tests.factories import rows

NAME = "für die Nacht 1.5"


@pytest.fixture
def dataset(api: httpx.Client) -> int:
    """200 rows, and a recipe of 12 steps."""
    assert api.put(f"/api/recipes/{NAME}", json={"config": {"lora_r": 24, "max_steps": 12}}).is_success
    return int(api.put("/api/datasets/measured.jsonl", content=rows(200, "measured")).json()["id"])


@pytest.mark.usefixtures("dataset")
def test_a_recipe_is_deleted_undone_and_begun_with(page: Page, server: Server, api: httpx.Client) -> None:
    page.goto(f"{server.url}/recipes")
    recipe = page.locator(f'[data-recipe="{NAME}"]')
    expect(recipe).to_contain_text("Rank (r)")
    recipe.get_by_role("button", name="Delete").click()
    expect(recipe).to_contain_text("Deleted just now")
    assert api.get(f"/api/recipes/{NAME}").status_code == 404
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(recipe).to_contain_text("Rank (r)")
    recipe.get_by_role("link", name="New job with it").click()
    expect(page.locator("#f-lora_r")).to_have_value("24")
    expect(page.locator(".chip[aria-current]")).to_have_text(NAME)


def test_the_numbers_follow_the_form_and_keep_what_was_typed(page: Page, server: Server, dataset: int) -> None:
    page.goto(f"{server.url}/datasets/{dataset}")
    expect(page.locator("#token-numbers")).to_contain_text("A job with the usual settings")
    page.fill("#f-max_length", "lots")
    page.click("#count-tokens")
    expect(page.locator("#wrong-max_length")).to_have_text("Must be a whole number")
    expect(page.locator("#f-max_length")).to_have_value("lots")
    page.fill("#f-max_length", "30")
    page.select_option("#token-counts [name=recipe]", NAME)
    page.press("#f-max_length", "Enter")
    expect(page.locator("#token-numbers")).to_contain_text(re.compile(rf"recipe {NAME}\s*12 steps"))
    expect(page.locator("#token-numbers")).to_contain_text("Longer than 30 tokens")
    expect(page.locator("#f-max_length")).to_have_value("30")


def test_the_form_of_the_numbers_works_without_script(browser: Browser, server: Server, dataset: int) -> None:
    context = sign_in(browser, server, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/datasets/{dataset}")
    page.select_option("#token-counts [name=recipe]", NAME)
    page.click("#count-tokens")
    expect(page.locator("#token-numbers")).to_contain_text("12 steps")
    context.close()
