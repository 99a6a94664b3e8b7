import html
import json
import re
from typing import Any

import pytest

from app.routes import pages_form
from app.routes.pages_new import LABELS
from app.services import estimates
from tests.app.test_estimates import REAL, gpu_lane
from tests.factories import Center, rows


@pytest.fixture
def card_center(center: Center) -> Center:
    """One card of 12 GB and one dataset."""
    gpu_lane(center, 12)
    center.upload(rows(100))
    return center


def card(center: Center, **fields: str) -> str:
    """The card as it is drawn for a form with these fields; all others as the form opens."""
    opened = center.get("/jobs/new").text
    sent = dict(re.findall(r'<input class="input"[^>]* name="(\w+)"[^>]* value="([^"]*)"', opened))
    chosen = {"train_on": "all_answers", "truncation": "drop", "loss_mean": "targets", "scheduler": "cosine"}
    sent |= chosen | {"dataset_id": "1", "model": REAL, "use_qlora": "true", "priority": "normal"} | fields
    answer = center.client.post("/jobs/_estimate", headers=center.headers, data=sent)
    assert answer.status_code == 200 and "<html" not in answer.text
    return answer.text


def test_the_form_opens_with_what_its_job_would_take(card_center: Center) -> None:
    page = card_center.get("/jobs/new").text
    assert '<section class="card" id="estimate"' in page and 'class="part-weights"' in page


def test_the_card_shows_memory_steps_and_disk_of_the_fields_sent(card_center: Center) -> None:
    shown = card(card_center, max_steps="321")
    assert '<span class="pill ready">Fits</span>' in shown and "of 12.0 GB free on the largest lane" in shown
    assert "<dd>321</dd>" in shown and "<dt>Disk</dt>" in shown


def test_what_would_fit_is_a_button_that_names_its_change(card_center: Center) -> None:
    shown = card(card_center, use_qlora="false")
    assert '<span class="pill failed">Does not fit</span>' in shown and "data-apply" in shown
    changes = [json.loads(html.unescape(one)) for one in re.findall(r'data-apply="([^"]*)"', shown)]
    assert changes == [{"use_qlora": True}]


def test_a_field_that_cannot_be_read_is_named_in_place_of_the_figures(card_center: Center) -> None:
    shown = card(card_center, lora_r="<b>many")
    assert "<li>Rank (r): " in shown and "stackbar" not in shown and "<b>many" not in shown


def test_a_fault_is_named_as_its_field_is(card_center: Center) -> None:
    shown = card(card_center, mixture="?", max_hours="long", needs_gpus="two")
    assert all(f"<li>{label}: " in shown for label in ("More datasets", "Longest duration", "GPUs"))


def test_every_field_that_is_seen_bears_the_name_by_which_its_faults_are_told(card_center: Center) -> None:
    form = card_center.get("/jobs/new").text
    seen = {name: label for name, label in LABELS.items() if name != "zone"}
    assert seen.keys() == pages_form.blank("", None).keys() - {"zone"}
    assert [label for label in seen.values() if not re.search(rf"> ?{re.escape(label)}</label>", form)] == []


def test_lists_and_choices_show_the_numbers_that_the_form_asks_for(card_center: Center) -> None:
    card_center.make_job(1)
    assert "#1 rows.jsonl (100 records)" in card_center.get("/jobs/new").text
    for path in ("/datasets", "/jobs", "/queue"):
        assert re.search(r">#1</span>", card_center.get(path).text), path


def test_a_model_nobody_knows_has_steps_and_no_memory(card_center: Center) -> None:
    shown = card(card_center, model="someone/other-vl")
    assert "is not known before the files" in shown and "<dt>Steps</dt>" in shown and "stackbar" not in shown


def test_asking_for_a_card_makes_no_job(card_center: Center) -> None:
    card(card_center)
    assert card_center.get("/api/jobs").json()["items"] == []


def test_a_job_shows_its_estimate_then_its_plan_then_its_measured_peak(card_center: Center) -> None:
    card_center.make_job(1, model=REAL)
    assert "as estimated" in card_center.get("/jobs/1/_memory").text
    claim = card_center.worker("gpu0", "node-of-12").must_claim()
    parts = dict.fromkeys(estimates.PARTS, 2**30) | {"total": 6 * 2**30, "usable": 11 * 2**30}
    claim.beat(claim.event("state", state="claimed", phase="planning", resolved={"memory": parts}))
    planned = card_center.get("/jobs/1/_memory").text
    assert "as planned" in planned and "of 11.0 GB" in planned and "Measured peak" not in planned
    claim.beat(claim.event("state", state="running", phase="saving", resolved={"measured_peak": 9 * 2**30}))
    assert "<b>9.0 GB</b>" in card_center.get("/jobs/1/_memory").text


def sent_job(center: Center, **fields: str) -> Any:
    opened = center.get("/jobs/new").text
    sent = dict(re.findall(r'<input class="input"[^>]* name="(\w+)"[^>]* value="([^"]*)"', opened))
    chosen = {"train_on": "all_answers", "truncation": "drop", "loss_mean": "targets", "scheduler": "cosine"}
    sent |= chosen | {"dataset_id": "1", "model": "tiny-qwen3-vl", "use_qlora": "true", "priority": "normal"} | fields
    return center.client.post("/jobs", headers=center.headers, data=sent, follow_redirects=False)


def test_the_form_asks_for_a_lane_and_for_a_time(card_center: Center) -> None:
    card_center.make_job(1)
    asked = {"needs_gpus": "2", "needs_memory": "24 GB", "needs_labels": "fast, nvme", "needs_node": "attic"}
    timed = {"depends_on": "#1", "start_after": "2035-01-31T22:00", "zone": "Europe/Paris", "max_hours": "1.5"}
    assert sent_job(card_center, **asked, **timed).headers["location"] == "/jobs/2"
    job = card_center.job(2)
    assert job["needs"] == {"gpus": 2, "memory": 24 * 10**9, "labels": ["fast", "nvme"], "node": "attic"}
    assert (job["depends_on"], job["max_duration_s"]) == ([1], 5400)
    assert job["start_after"].startswith("2035-01-31T21:00:00")


@pytest.mark.parametrize(
    ("name", "text"),
    [("needs_memory", "much"), ("needs_gpus", "x"), ("depends_on", "77"), ("start_after", "soon"), ("max_hours", "x")],
)
def test_a_wrong_need_or_time_is_told_where_it_stands(card_center: Center, name: str, text: str) -> None:
    answer = sent_job(card_center, **{name: text})
    assert answer.status_code == 422
    assert f'id="wrong-{name}"' in answer.text and f'value="{text}"' in answer.text


def test_a_duplicate_asks_for_the_same_lane(card_center: Center) -> None:
    card_center.make_job(1, needs={"memory": "24 GB", "labels": ["fast"]}, max_duration_s=7200)
    opened = card_center.get("/jobs/new?from=1").text
    assert 'name="needs_memory" value="24 GB"' in opened and 'name="needs_labels" value="fast"' in opened
    assert 'name="max_hours" value="2"' in opened


def test_a_mixture_is_written_as_numbers_with_weights(center: Center) -> None:
    ids = [center.upload(rows(number), f"{number}.jsonl")["id"] for number in (3, 4, 5)]
    form = pages_form.blank("tiny-qwen3-vl", ids[0])
    answer = center.client.post(
        "/jobs", headers=center.headers, data=form | {"mixture": "2, #3 × 0.5"}, follow_redirects=False
    )
    job = center.job(int(answer.headers["location"].rsplit("/", 1)[1]))
    assert job["datasets"] == [{"id": 1, "weight": 1.0}, {"id": 2, "weight": 1.0}, {"id": 3, "weight": 0.5}]
    again = center.get(f"/jobs/new?from={job['id']}").text
    assert 'name="mixture" value="2, 3 x 0.5"' in again
    wrong = center.client.post("/jobs", headers=center.headers, data=form | {"mixture": "two, 99"})
    assert wrong.status_code == 422 and "Must be a whole number" in wrong.text
    wrong = center.client.post("/jobs", headers=center.headers, data=form | {"mixture": "99"})
    assert wrong.status_code == 422 and "There is no dataset 99" in wrong.text
