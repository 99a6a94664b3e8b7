"""The whole way in a real browser: a file goes in, a job is watched live, another is stopped, an adapter comes out."""

import re
import zipfile
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server

MINUTES = 60_000
FEW_PAUSES = {"sample_prompts": "0", "eval_steps": "6", "save_steps": "6"}


def upload(page: Page, server: Server, path: Path) -> str:
    """Upload by the page; returns the id of the dataset."""
    page.goto(f"{server.url}/datasets")
    page.set_input_files("input[type=file]", path)
    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    expect(page.locator("#dataset-head .pill")).to_have_text("Ready", timeout=MINUTES)
    return page.url.rsplit("/", 1)[1]


def add_job(page: Page, **fields: str) -> str:
    """Fill in the form that is open and send it; returns the id of the job."""
    page.click("summary")
    for name, value in {"model": "tiny-qwen3-vl", **fields}.items():
        page.fill(f"#f-{name}", value)
    page.click("text=Add job")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    return page.url.rsplit("/", 1)[1]


def num_points(page: Page) -> int:
    return int(page.locator("#chart-loss").get_attribute("data-points") or 0)


def wait_for_points(page: Page, more_than: int) -> int:
    page.wait_for_function(
        "least => Number(document.querySelector('#chart-loss').dataset.points || 0) > least",
        arg=more_than,
        timeout=2 * MINUTES,
    )
    return num_points(page)


@pytest.mark.timeout(600)
def test_from_a_file_to_an_adapter_without_a_reload(page: Page, server: Server, sample: Path, tmp_path: Path) -> None:
    upload(page, server, sample)
    page.click("text=Train on this")
    add_job(page, name="watched", max_steps="12", gradient_accumulation="1", **FEW_PAUSES)
    page.evaluate("window.sameDocument = true")
    seen = wait_for_points(page, more_than=0)
    assert wait_for_points(page, more_than=seen) > seen
    expect(page.locator("#job-head .pill")).to_have_text("Finished", timeout=4 * MINUTES)
    assert page.evaluate("window.sameDocument")
    with page.expect_download() as download:
        page.click("#job-head >> text=Download")
    download.value.save_as(tmp_path / "adapter.zip")
    assert "adapter_model.safetensors" in zipfile.ZipFile(tmp_path / "adapter.zip").namelist()


@pytest.mark.timeout(600)
def test_a_running_job_is_stopped_from_its_page_and_keeps_a_checkpoint(
    page: Page, server: Server, sample: Path, api: httpx.Client
) -> None:
    dataset = upload(page, server, sample)
    page.goto(f"{server.url}/jobs/new?dataset={dataset}")
    job = add_job(page, name="stopped", max_steps="5000", gradient_accumulation="1", **FEW_PAUSES)
    wait_for_points(page, more_than=1)
    page.click("#job-head .btn.stop")
    page.click("#dialog >> text=Stop job")
    expect(page.locator("#job-head .pill")).to_have_text(re.compile("Stopping|Stopped"), timeout=MINUTES / 4)
    expect(page.locator("#job-head .pill")).to_have_text("Stopped", timeout=MINUTES)
    expect(page.locator("#job-head")).to_contain_text("Resume goes on from there")
    assert api.get(f"/api/jobs/{job}/checkpoints").json()["items"]
