"""The estimate beside the form of a new job, and the plan on the job's page."""

import re

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.conftest import Server
from tests.factories import rows


@pytest.fixture
def form(page: Page, server: Server, api: httpx.Client) -> Page:
    """The open form, on a dataset whose jobs take 25 steps."""
    dataset = api.put("/api/datasets/estimated.jsonl", content=rows(200, "estimated")).json()
    page.goto(f"{server.url}/jobs/new?dataset={dataset['id']}")
    return page


def fact(page: Page, name: str) -> str:
    return page.locator(f"#estimate dt:text-is('{name}') + dd").inner_text()


def test_the_estimate_follows_the_fields(form: Page) -> None:
    assert fact(form, "Steps") == "25"
    form.fill("#f-epochs", "3")
    expect(form.locator("#estimate")).to_contain_text("75")
    form.fill("#f-epochs", "")
    expect(form.locator("#estimate .reasons")).to_have_text(re.compile("Epochs"))
    assert form.locator("#f-epochs").input_value() == ""


def test_a_button_of_the_estimate_changes_the_fields_it_names(form: Page) -> None:
    button = (
        """<button class="btn" type="button" data-apply='{"max_length": 512, "use_qlora": true}'><span>Less</span>"""
    )

    def offer(route: Route) -> None:
        route.fulfill(body=route.fetch().text().replace("</section>", f"{button}</button></section>"))

    form.route("**/jobs/_estimate", offer)
    form.uncheck("[name=use_qlora]")
    form.click("#estimate >> text=Less")
    expect(form.locator("#f-max_length")).to_have_value("512")
    expect(form.locator("[name=use_qlora]")).to_be_checked()
    expect(form.locator("#toasts")).to_contain_text("Less.")
