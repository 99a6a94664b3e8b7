"""The page of a dataset: its forms, its words in every state, its search."""

import re

from app.conversations.containers.archives import DATA_SUFFIXES, PACKED_SUFFIXES
from tests.factories import Center, rows


def test_a_file_with_other_keys_is_read_differently_from_its_page(center: Center) -> None:
    lines = b"".join(b'{"question": "What is %d?", "answer": "It is a number."}\n' % n for n in range(30))
    dataset = center.upload(lines)
    assert dataset["state"] == "refused" and "Read it differently" in center.get("/datasets/1").text
    sent = {"shape": "prompt", "fields": "prompt=question, response=answer"}
    answer = center.client.post("/datasets/1/reading", headers=center.headers, data=sent, follow_redirects=False)
    assert answer.status_code == 303 and center.wait_for_dataset(1)["num_valid"] == 30
    assert 'value="prompt=question, response=answer"' in center.get("/datasets/1").text
    wrong = center.client.post("/datasets/1/reading", headers=center.headers, data={"fields": "prompt question"})
    assert wrong.status_code == 422 and "must be written as key=name" in wrong.text


def test_the_chooser_offers_every_kind_of_file_that_is_taken(center: Center) -> None:
    (accepted,) = re.findall(r'type="file" accept="([^"]+)"', center.get("/datasets").text)
    assert {*DATA_SUFFIXES, *PACKED_SUFFIXES, ".zip", ".tar"} <= set(accepted.split(","))


def test_the_next_records_have_a_well_formed_address(center: Center) -> None:
    center.upload(rows(60))
    for asked, wanted in (("", "/datasets/1?after="), ("?q=What", "/datasets/1?q=What&amp;after=")):
        (more,) = re.findall(r'href="(/datasets/1\?[^"]*after=[^"]*)#records"', center.get(f"/datasets/1{asked}").text)
        assert more.startswith(wanted)
        assert center.get(more.replace("&amp;", "&")).status_code == 200
