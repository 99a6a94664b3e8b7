import json
import re
from typing import Any

import pytest

from app.templating import STATIC_DIR, get_environment
from tests.factories import Center, Claim, jsonl, rows

PAGES = (
    "/",
    "/jobs",
    "/jobs/new",
    "/jobs/1",
    "/datasets",
    "/datasets/1",
    "/datasets/1/records/1",
    "/datasets/2/diff",
    "/adapters",
    "/adapters/1",
    "/nodes",
    "/trash",
    "/trash/empty",
    "/inbox",
    "/recipes",
    "/queue",
)
JOB_REGIONS = (
    "_head",
    "_progress",
    "_checkpoints",
    "_settings",
    "_gauges",
    "_memory",
    "_samples",
    "_advice",
    "_black_box",
    "_history",
    "_stop",
)
REGIONS = (
    *("/_welcome", "/_summary", "/_hero", "/_node", "/_queue", "/_recent", "/jobs/_rows", "/adapters/_rows"),
    "/inbox/_rows",
    "/trash/_empty",
    *(
        "/queue/_list",
        "/queue/_opening",
        "/queue/_hours",
        "/nodes/_nodes",
        "/datasets/_rows",
        "/datasets/1/_head",
        "/datasets/1/_findings",
        "/datasets/1/_kinds",
        "/datasets/1/_statistics",
        "/datasets/1/_tokens",
        "/datasets/1/_search",
    ),
    *(f"/jobs/1/{name}" for name in JOB_REGIONS),
)


def form_values(center: Center) -> dict[str, str]:
    """The form's fields as a browser would send them back unchanged."""
    html = center.get("/jobs/new").text
    inputs = dict(re.findall(r'<input class="input"[^>]* name="(\w+)"[^>]* value="([^"]*)"', html))
    boxes = dict.fromkeys(re.findall(r'name="(\w+)" value="true" checked', html), "true")
    chosen = r'name="(\w+)">\s*(?:<option[^>]*>[^<]*</option>)*?<option value="(\w*)" selected'
    return inputs | boxes | dict(re.findall(chosen, html)) | {"system_prompt": "You are a helpful assistant."}


def send_form(center: Center, **changes: str) -> Any:
    return center.client.post(
        "/jobs", headers=center.headers, data=form_values(center) | changes, follow_redirects=False
    )


@pytest.fixture
def claim(center: Center) -> Claim:
    """A job that made three steps, the middle one without a loss."""
    center.make_job(name="numbers")
    claim = center.worker().must_claim()
    claim.begin()
    claim.beat(claim.step(1), claim.step(2, None), claim.step(3, 1.25))
    return claim


@pytest.fixture
def full(center: Center, claim: Claim) -> Center:
    """A center in which every kind of thing exists once."""
    claim.beat(
        claim.event("log", level="warning", text="<b>careful</b>"),
        claim.event("eval", step=3, loss=1.5),
        claim.event(
            "sample",
            step=3,
            prompt_id=0,
            prompt="2 + 2?",
            answer="4",
            base_answer="?",
            wanted="4",
        ),
    )
    claim.succeed(step=3)
    center.make_job(1, name="next")
    center.post("/api/datasets/1/versions", json={"repair": ["bare_count"]})
    thrown = center.upload(rows(5, "thrown"))["id"]
    center.post(f"/trash/dataset/{thrown}/move")
    center.client.put("/api/recipes/night", headers=center.headers, json={"config": {"lora_r": 8}})
    return center


def test_every_page_answers_and_is_never_kept_by_the_browser(full: Center) -> None:
    for path in PAGES:
        answer = full.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), path
        assert "<h1" in answer.text and 'id="main"' in answer.text, path


def test_a_page_runs_no_inline_script_and_names_no_other_host(full: Center) -> None:
    for html in (full.get(path).text for path in PAGES):
        scripts = re.findall(r"<script([^>]*)>", html)
        assert all(" src=" in one or 'type="application/json"' in one for one in scripts)
        assert not re.search(r"\son\w+=|hx-on|javascript:|hx-vals=.js:", html)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', html)


def test_a_region_has_an_address_of_its_own_and_is_no_whole_page(full: Center) -> None:
    for path in REGIONS:
        answer = full.get(path)
        assert answer.status_code == 200, path
        assert "<html" not in answer.text and "<" in answer.text, path


def test_every_template_is_rendered_by_some_page(full: Center) -> None:
    cache = get_environment().cache
    assert cache is not None
    cache.clear()
    for path in (*PAGES, *REGIONS, "/nowhere", "/login"):
        full.get(path)
    seen = {name for _, name in cache}
    assert set(get_environment().list_templates()) - seen == {"home/first.html", "_macros.html"}


def test_before_the_first_job_the_dashboard_shows_the_way_to_it(center: Center) -> None:
    assert "Ready to train" in center.get("/").text
    center.upload(rows(3))
    html = center.get("/").text
    assert "3 of 3 records can be trained" in html and "/jobs/new?dataset=1" in html


def test_each_region_that_a_page_reads_anew_exists(full: Center) -> None:
    for path in PAGES:
        for region in re.findall(r'hx-get="([^"]+)"', full.get(path).text):
            assert full.get(region).status_code == 200, region


def test_no_link_of_a_page_leads_nowhere(full: Center) -> None:
    links = {link for path in PAGES for link in re.findall(r'href="(/[^"#]*)', full.get(path).text)}
    assert {link for link in links if full.get(link.replace("&amp;", "&")).status_code != 200} == set()


def test_the_chart_starts_from_the_steps_so_far_with_a_gap_where_a_loss_is_missing(
    center: Center, claim: Claim
) -> None:
    html = center.get(f"/jobs/{claim.job_id}").text
    found = re.search(r'<script type="application/json" data-history="1">(.*?)</script>', html)
    history = json.loads(found[1]) if found else {}
    assert (history["step"], history["loss"]) == ([1, 2, 3], [1.5, None, 1.25])


def test_the_stream_of_a_page_goes_on_where_the_page_was_read(center: Center, claim: Claim) -> None:
    html = center.get(f"/jobs/{claim.job_id}").text
    newest = center.job(claim.job_id)["last_event_id"]
    assert f"/api/events?topics=queue,telemetry&amp;jobs=1&amp;after={newest}" in html


def test_what_a_trainer_writes_is_text_and_never_markup(full: Center) -> None:
    html = full.get("/jobs/1").text
    assert "&lt;b&gt;careful&lt;/b&gt;" in html and "<b>careful" not in html


def test_a_sample_shows_its_question(full: Center) -> None:
    assert '<dt>Question</dt><dd class="clamp">2 + 2?</dd>' in full.get("/jobs/1/_samples").text


def test_the_form_makes_the_job_that_rest_would_make(center: Center) -> None:
    center.upload(rows(30))
    answer = send_form(center, name="by hand", lora_r="8", epochs="2", eval_steps="5")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    by_rest = center.make_job(1, config={"lora_r": 8, "epochs": 2, "eval_steps": 5})
    assert center.job(1)["config"] == by_rest["config"]
    assert center.job(1)["name"] == "by hand"


def test_a_wrong_form_comes_back_with_every_fault_and_what_was_typed(center: Center) -> None:
    center.upload(rows(30))
    answer = send_form(center, lora_r="many", epochs="", model="nowhere", name="kept")
    assert answer.status_code == 422
    assert all(f'id="wrong-{name}"' in answer.text for name in ("lora_r", "epochs", "model"))
    assert answer.text.count("aria-invalid") == 3
    assert 'value="many"' in answer.text and 'value="kept"' in answer.text


def test_a_field_that_contradicts_another_is_told_where_it_stands(center: Center) -> None:
    center.upload(rows(30))
    answer = send_form(center, min_pixels="9", max_pixels="4")
    assert answer.status_code == 422
    assert 'id="wrong-max_pixels"' in answer.text and "Is smaller than min_pixels" in answer.text


def test_a_refused_dataset_cannot_be_chosen(center: Center) -> None:
    center.upload(jsonl("no conversation"))
    assert 'name="dataset_id"' not in center.get("/jobs/new").text


def test_a_duplicate_opens_with_the_settings_of_the_job(center: Center) -> None:
    center.make_job(config={"lora_r": 7, "warmup_steps": 3})
    html = center.get("/jobs/new?from=1").text
    assert 'name="lora_r" value="7"' in html and 'name="warmup_steps" value="3"' in html
    assert "<details open>" in html


def test_a_button_answers_script_with_a_toast_and_tells_the_regions(center: Center) -> None:
    center.make_job(name="soon gone")
    answer = center.post("/jobs/1/_cancel")
    told = json.loads(answer.headers["hx-trigger"])
    assert (answer.status_code, told["toast"]["text"], "state" in told) == (204, "Stopped soon gone.", True)
    assert center.job(1)["state"] == "cancelled"


def test_a_button_without_script_leads_back_to_the_job(center: Center) -> None:
    center.make_job()
    answer = center.client.post("/jobs/1/cancel", headers=center.headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")


def test_a_refused_button_says_why_in_a_toast(center: Center) -> None:
    center.make_job()
    answer = center.post("/jobs/1/_pause")
    assert answer.status_code == 409
    assert "cannot be paused" in json.loads(answer.headers["hx-trigger"])["toast"]["text"]


def test_stopping_at_once_is_passed_on(center: Center, claim: Claim) -> None:
    center.client.post("/jobs/1/_cancel", headers=center.headers, data={"save": "false"})
    assert claim.beat().json()["commands"] == ["stop"]


@pytest.mark.parametrize(
    ("action", "pill"),
    [("cancel", "Stopping"), ("pause", "Pausing")],
)
def test_what_is_asked_of_a_running_job_is_its_word(center: Center, claim: Claim, action: str, pill: str) -> None:
    center.act(claim.job_id, action)
    assert f'<span class="pill stopping">{pill}</span>' in center.get("/jobs/1/_head").text


def test_a_failed_job_says_why_and_what_to_do(center: Center, claim: Claim) -> None:
    claim.end("failed", error={"code": "non_finite_loss", "message": "The loss is NaN.", "advice": "Lower the rate."})
    html = center.get("/jobs/1/_head").text
    assert "The loss is NaN." in html and "Lower the rate." in html
    assert "/jobs/1/retry" in html and "/jobs/1/resume" not in html


def test_the_sample_data_comes_in_with_one_click(center: Center) -> None:
    answer = center.client.post("/datasets/sample", headers=center.headers, follow_redirects=False)
    assert answer.headers["location"] == "/datasets/1"
    assert center.get("/api/datasets/1").json()["state"] == "ready"


def test_what_does_not_exist_gets_a_page_that_says_so(center: Center) -> None:
    answer = center.get("/jobs/77")
    assert (answer.status_code, "There is no job 77." in answer.text) == (404, True)
    assert "Traceback" not in answer.text and "<nav" in answer.text


@pytest.mark.parametrize(("cookie", "theme"), [("dark", "dark"), ("light", "light"), ('"><script>', "auto")])
def test_the_server_writes_the_theme(center: Center, cookie: str, theme: str) -> None:
    html = center.client.get("/", headers=center.headers | {"Cookie": f"theme={cookie}"}).text
    assert f'<html lang="en" data-theme="{theme}">' in html


def test_a_static_file_under_its_hash_is_kept_for_ever(center: Center) -> None:
    url = re.findall(r'"(/static/css/app.css\?v=\w+)"', center.get("/").text)[0]
    assert "immutable" in center.client.get(url).headers["cache-control"]
    assert center.client.get("/static/css/app.css").headers["cache-control"] == "no-cache"


def test_the_font_is_preloaded_under_the_address_the_style_names(center: Center) -> None:
    style = (STATIC_DIR / "css/app.css").read_text()
    preloaded = re.findall(r'rel="preload" href="/static/(fonts/[^"]+)"', center.get("/").text)
    assert preloaded and all(f'url("../{name}")' in style for name in preloaded)
