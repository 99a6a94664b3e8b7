"""Recipes in a browser: deleted, undone and begun with."""

import httpx
import pytest
from playwright.sync_api import Page, expect

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
