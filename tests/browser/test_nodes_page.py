"""Machines as they are seen: live, with their past, and drained by a button."""

import httpx
from playwright.sync_api import Page, expect

from tests.conftest import Server


def test_a_node_shows_its_lanes_and_draws_its_past(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/nodes")
    expect(page.locator(".lane .dot").first).to_have_text("online")
    page.wait_for_function("Number(document.querySelector('[data-canvas]').dataset.points) > 1")
    page.locator("[data-figure]").select_option("memory")
    expect(page.locator("[data-legend]")).to_contain_text("%")
    assert page.locator("[data-canvas] canvas").count() == 1


def test_a_node_is_drained_and_takes_jobs_again(page: Page, server: Server, api: httpx.Client) -> None:
    page.goto(f"{server.url}/nodes")
    page.click("text=Drain")
    expect(page.locator(".node .banner")).to_contain_text("takes no more")
    assert api.get("/api/nodes").json()["items"][0]["draining"] is True
    page.click("text=Take jobs again")
    expect(page.locator(".lane .dot").first).to_have_text("online")
    assert api.get("/api/nodes").json()["items"][0]["draining"] is False
