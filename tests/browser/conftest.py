"""A real headless Chromium that is signed in to the control center of the `server` fixture."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.security import make_login_code
from tests.conftest import Server

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
DESKTOP = {"width": 1440, "height": 900}
PATIENT_MS = 30_000
# Chromium's own word for a fade between two pages that came too late to be shown; nothing of ours asks for more.
SKIPPED = "Transition was aborted"
expect.set_options(timeout=PATIENT_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is missing: `apt-get install chromium` brings it.")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()


def sign_in(browser: Browser, server: Server, **options: Any) -> BrowserContext:
    """A context of its own that holds the session cookie."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(PATIENT_MS)
    context.new_page().goto(f"{server.url}/login?code={make_login_code(server.token)}")
    context.pages[0].close()
    return context


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that is signed in, and fails its test if anything went wrong in its console or left the host."""
    context = sign_in(browser, server)
    page = context.new_page()
    faults: list[str] = []
    own = (server.url, "blob:", "data:")
    page.on("pageerror", lambda error: None if SKIPPED in str(error) else faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda sent: None if sent.url.startswith(own) else faults.append(sent.url))
    yield page
    context.close()
    assert faults == []


@pytest.fixture(scope="session")
def sample() -> Path:
    """A hundred real rows where the shared folder is, else the sample that comes with the project."""
    root = Path(__file__).resolve().parents[2]
    shared = root.parent / "shared" / "data" / "syllo_100.jsonl"
    return shared if shared.is_file() else sorted((root / "examples").glob("*.jsonl"))[0]


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
