"""The inbox as it is seen: files appear and change their states without a reload, and are played again by a button."""

import httpx
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.conftest import Server
from tests.factories import rows

SIDECAR = "model: tiny-qwen3-vl\nmax_steps: 3\nsample_prompts: 0\nlora_r: 4\nvalidation_share: 0\n"


def box(place: Locator) -> FloatRect:
    found = place.bounding_box()
    assert found is not None
    return found


def test_a_file_is_followed_to_its_adapter_and_played_again(page: Page, server: Server, api: httpx.Client) -> None:
    inbox = server.data_dir / "inbox"
    page.goto(f"{server.url}/inbox")
    (inbox / "followed.jsonl").write_bytes(rows(30, "followed"))
    row = page.locator("tr", has_text="followed.jsonl")
    # It waits for a model, and says so.
    expect(row).to_contain_text("model", timeout=20_000)
    (inbox / "followed.jsonl.yaml").write_text(SIDECAR)
    expect(row.locator(".pill")).to_have_text("Archived", timeout=90_000)
    number = row.locator("a[href^='/jobs/']").inner_text()
    assert api.get(f"/api/jobs/{number}").json()["state"] == "succeeded"
    row.get_by_role("button", name="Replay").click()
    expect(page.locator("tr", has_text="followed.jsonl").first.locator(".pill")).not_to_have_text("Archived")


def test_a_file_in_error_is_put_aside_and_taken_off_the_list(page: Page, server: Server) -> None:
    inbox = server.data_dir / "inbox"
    page.goto(f"{server.url}/inbox")
    (inbox / "wrong.jsonl.yaml").write_text(SIDECAR)
    (inbox / "wrong.jsonl").write_bytes(b'{"messages": []}\n' * 9)
    row = page.locator("tr", has_text="wrong.jsonl")
    expect(row.locator(".pill")).to_have_text("Quarantined", timeout=30_000)
    assert (inbox / "quarantine" / "wrong.jsonl.report.json").is_file()
    page.set_viewport_size({"width": 390, "height": 844})
    assert box(row.locator("td").first)["width"] > 300
    replay, dismiss = box(row.get_by_role("button").first), box(row.get_by_role("button").last)
    assert dismiss["x"] - (replay["x"] + replay["width"]) >= 6
    row.get_by_role("button", name="Take wrong.jsonl off the list").click()
    expect(page.locator("tr", has_text="wrong.jsonl")).to_have_count(0)
