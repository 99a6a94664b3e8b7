"""A running job by its buttons: a checkpoint and samples now, paused, resumed, stopped, told in its history."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.factories import rows

MINUTE = 60_000


def press(page: Page, words: str) -> None:
    page.click(".menu-button")
    page.click(f"#job-menu >> text={words}")


@pytest.mark.timeout(400)
def test_a_running_job_obeys_its_buttons(page: Page, server: Server, api: httpx.Client) -> None:
    dataset = api.put("/api/datasets/obeyed.jsonl", content=rows(40, "obeyed")).json()["id"]
    config = {"max_steps": 20_000, "eval_steps": 20_000, "save_steps": 20_000, "sample_prompts": 1}
    body = {"dataset_id": dataset, "model": "tiny-qwen3-vl", "name": "obeys", "config": config}
    job = api.post("/api/jobs", json=body).json()["id"]
    page.goto(f"{server.url}/jobs/{job}")
    pill = page.locator("#job-head .pill").first
    expect(pill).to_have_text("Running", timeout=2 * MINUTE)
    press(page, "Save a checkpoint now")
    expect(page.locator("#checkpoints .row")).to_have_count(1, timeout=MINUTE)
    press(page, "Sample now")
    expect(page.locator("#samples .sample")).to_have_count(1, timeout=MINUTE)
    page.click("#job-head >> text=Pause")
    expect(pill).to_have_text("Paused", timeout=MINUTE)
    page.click("#job-head >> text=Resume")
    expect(pill).to_have_text("Running", timeout=MINUTE)
    page.click("#job-head .btn.stop")
    page.click("#dialog >> text=Stop job")
    expect(pill).to_have_text("Stopped", timeout=MINUTE)
    told = ["stopped it", "let it go on", "paused it", "asked for samples", "asked for a checkpoint", "added it"]
    expect(page.locator("#history .did li")).to_contain_text([re.compile(one) for one in told])
