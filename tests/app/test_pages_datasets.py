"""The page of a dataset: its forms, its words in every state, its search."""

import html
import re

import pytest
from httpx2 import Response

from app.analysis import STOPPED
from app.conversations.containers.archives import DATA_SUFFIXES, PACKED_SUFFIXES
from app.services import datasets
from tests.factories import Center, jsonl, rows


def test_a_file_with_other_keys_is_read_differently_from_its_page(center: Center) -> None:
    lines = b"".join(b'{"question": "What is %d?", "answer": "It is a number."}\n' % n for n in range(30))
    dataset = center.upload(lines)
    assert dataset["state"] == "refused" and "Read it differently" in center.get("/datasets/1").text
    sent = {"shape": "prompt", "fields": "prompt=question, response=answer"}
    answer = center.client.post("/datasets/1/reading", headers=center.headers, data=sent, follow_redirects=False)
    assert answer.status_code == 303 and center.wait_for_dataset(1)["num_valid"] == 30
    assert 'value="prompt=question, response=answer"' in center.get("/datasets/1").text
    wrong = center.client.post("/datasets/1/reading", headers=center.headers, data={"fields": "prompt question"})
    assert wrong.status_code == 422 and "Keys must be written as key=name" in wrong.text
    assert 'value="prompt question"' in wrong.text and 'id="dataset-head"' in wrong.text


def test_the_chooser_offers_every_kind_of_file_that_is_taken(center: Center) -> None:
    (accepted,) = re.findall(r'type="file" accept="([^"]+)"', center.get("/datasets").text)
    assert {*DATA_SUFFIXES, *PACKED_SUFFIXES, ".zip", ".tar"} <= set(accepted.split(","))


def test_the_next_records_have_a_well_formed_address(center: Center) -> None:
    center.upload(rows(60))
    for asked, wanted in (("", "/datasets/1?after="), ("?q=What", "/datasets/1?q=What&amp;after=")):
        (more,) = re.findall(r'href="(/datasets/1\?[^"]*after=[^"]*)#records"', center.get(f"/datasets/1{asked}").text)
        assert more.startswith(wanted)
        assert center.get(more.replace("&amp;", "&")).status_code == 200


def send(center: Center, path: str, **fields: str) -> Response:
    return center.client.post(path, headers=center.headers, data=fields, follow_redirects=False)


def test_a_version_of_nothing_says_so_on_the_page_and_keeps_its_name(center: Center) -> None:
    center.upload(rows(3))
    answer = send(center, "/datasets/1/versions", name="mine.jsonl", **{"kind.bare_count": "keep"})
    assert answer.status_code == 422
    assert "Choose Exclude or Repair for at least one kind of finding." in answer.text
    assert 'value="mine.jsonl"' in answer.text and 'id="dataset-head"' in answer.text


def test_a_form_that_comes_too_late_is_answered_on_the_page(center: Center) -> None:
    center.upload(rows(3))
    for path in ("/datasets/1/cancel", "/datasets/1/compare"):
        answer = send(center, path, datasets="1")
        assert answer.status_code in (409, 422) and "Nothing was changed" in answer.text, path


@pytest.mark.parametrize(
    ("path", "page"),
    [
        *((f"/datasets/1/{name}", "/datasets/1") for name in ("versions", "reading", "compare", "cancel")),
        *((path, "/trash") for path in ("/trash/retention", "/trash/job/1/move")),
        ("/jobs/1/cancel", "/jobs/1"),
        ("/jobs/_recipe", "/jobs/new"),
        ("/queue/pause", "/queue"),
        ("/nodes/1/drain", "/nodes"),
        ("/recipes/night/delete", "/recipes"),
        ("/inbox/1/replay", "/inbox"),
    ],
)
def test_the_address_of_a_form_leads_to_its_page(center: Center, path: str, page: str) -> None:
    answer = center.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, page)


def test_an_error_page_leads_back_to_where_one_came_from(center: Center) -> None:
    came_from = {"Referer": "http://127.0.0.1:7860/datasets?after=9"}
    answer = center.client.get("/datasets/77", headers=center.headers | came_from)
    assert answer.status_code == 404 and 'href="/datasets?after=9"' in answer.text
    strange = center.client.get("/datasets/77", headers=center.headers | {"Referer": "http://else.example/datasets"})
    assert "Back to the page before" not in strange.text


REGIONS = ("_kinds", "_findings", "_statistics")


@pytest.mark.parametrize(
    ("content", "heading", "advice"),
    [
        (b"%PDF-1.4 is no dataset", "This file cannot be read", "Mend the file and upload it again"),
        (
            b"place,weather\nRome,sun\nOslo,rain\n",
            "columns of this file are not known",
            "which column holds the question",
        ),
        (b"\n", "There is no record in this file", "Upload one that holds some."),
        (jsonl("no conversation"), "Nothing in this file can be trained", "or say how it is meant"),
    ],
)
def test_a_check_that_found_nothing_to_train_says_what_to_do(
    center: Center, content: bytes, heading: str, advice: str
) -> None:
    center.upload(content, "odd.csv")
    page = center.get("/datasets/1").text
    assert heading in page and advice in page
    assert "Upload the file again to repeat it" not in page
    assert not any("when the check is through" in center.get(f"/datasets/1/{name}").text for name in REGIONS)


@pytest.mark.parametrize(
    ("error", "heading"),
    [(STOPPED, "The check was stopped"), ("The check broke down; the log has the reason.", "The check broke down")],
)
def test_a_check_that_did_not_get_through_is_made_again_by_a_button(center: Center, error: str, heading: str) -> None:
    center.upload(rows(3))
    with center.database.write() as session:
        dataset = datasets.get(session, 1)
        dataset.findings = dataset.statistics = None
        datasets.fail(session, dataset, error)
    assert heading in center.get("/datasets/1").text
    assert all("nothing is known of the records" in center.get(f"/datasets/1/{name}").text for name in REGIONS)
    assert send(center, "/datasets/1/reading", shape="", fields="").status_code == 303
    assert center.wait_for_dataset(1)["state"] == "ready"


def test_the_sample_of_the_format_passes_its_own_check(center: Center) -> None:
    (sample,) = re.findall(r'<pre class="code wrap" id="sample">(.*?)</pre>', center.get("/datasets").text, re.DOTALL)
    dataset = center.upload(html.unescape(sample).encode())
    assert (dataset["num_valid"], dataset["findings"]) == (3, {})
