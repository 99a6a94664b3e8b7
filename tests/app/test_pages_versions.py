"""The page of a dataset: kinds with words, statistics as bars, new versions by its form, and what they changed."""

import html
import re
import subprocess
import sys
from pathlib import Path

from app.models import Dataset
from app.routes.pages_versions import MOST_WORDS, compare
from app.routes.pictures import histogram, kinds, pictures
from tests.conftest import REPOSITORY
from tests.factories import Center, jsonl, record, rows


def make(center: Center, **chosen: str) -> str:
    """Where the form leads; a choice for each kind."""
    form = {f"kind.{kind}": what for kind, what in chosen.items()} | {"name": ""}
    answer = center.client.post("/datasets/1/versions", headers=center.headers, data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def faulty(center: Center) -> None:
    center.upload(jsonl(record("How many?", 596), record("Where?", "in ZÃ¼rich")) + b"nope\n" + rows(1, "more"))


def test_each_kind_says_why_it_hurts_and_what_can_be_done(center: Center) -> None:
    faulty(center)
    page = center.get("/datasets/1/_kinds").text
    assert "A bare number teaches no form" in page and "The line cannot be read." in page
    offered = re.findall(r'name="kind\.(\w+)" value="repair"', page)
    assert offered == ["bare_count", "mojibake"]


def test_a_kind_that_nobody_knows_is_shown_by_its_name(center: Center) -> None:
    faulty(center)
    with center.database.write() as session:
        dataset = session.get_one(Dataset, 1)
        dataset.findings = {"odd_thing": 3}
    page = center.get("/datasets/1").text
    assert "Odd thing" in page and 'value="repair"' not in page and 'value="exclude"' not in page


def test_the_worst_kinds_stand_first() -> None:
    found = kinds({"refusal": 9, "bare_count": 1, "mojibake": 5, "not_json": 1})
    assert [one["name"] for one in found] == ["not_json", "mojibake", "bare_count", "refusal"]


def test_the_form_makes_a_version_and_leads_to_it(center: Center) -> None:
    faulty(center)
    assert make(center, bare_count="repair", not_json="exclude", mojibake="keep") == "/datasets/2"
    made = center.wait_for_dataset(2)
    assert (made["parent_id"], made["num_records"], sorted(made["findings"])) == (1, 3, ["mojibake"])


def test_a_form_without_a_choice_says_what_to_do(center: Center) -> None:
    faulty(center)
    answer = center.client.post("/datasets/1/versions", headers=center.headers, data={"kind.mojibake": "keep"})
    assert answer.status_code == 422 and "Choose Exclude or Repair" in answer.text


def test_the_page_lists_the_versions_with_what_was_done(center: Center) -> None:
    faulty(center)
    make(center, mojibake="repair")
    page = " ".join(center.get("/datasets/1").text.split())
    assert "repaired: mojibake. 1 line repaired" in page and "/datasets/2/diff" in page and "The original" in page


def test_the_changes_of_a_version_are_marked_word_by_word(center: Center) -> None:
    faulty(center)
    make(center, mojibake="repair", not_json="exclude")
    page = center.get("/datasets/2/diff").text
    assert "<ins>Zürich</ins>" in page and "<del>nope</del>" in page


def test_a_dataset_that_was_not_made_of_another_has_no_changes(center: Center) -> None:
    center.upload(rows(1))
    assert center.get("/datasets/1/diff").status_code == 404


def test_two_texts_are_one_with_what_went_and_came() -> None:
    assert [tuple(piece) for piece in compare("a b c", "a x c")] == [
        ("same", "a "),
        ("gone", "b"),
        ("new", "x"),
        ("same", " c"),
    ]


def test_texts_that_share_little_are_not_compared_word_by_word() -> None:
    pieces = compare("a " * MOST_WORDS + "x", "b " * MOST_WORDS + "y")
    assert [piece.kind for piece in pieces] == ["gone", "new"]


def test_what_stayed_is_shortened_around_a_change() -> None:
    pieces = compare("word " * 500 + "old" + " more" * 500, "word " * 500 + "new" + " more" * 500)
    assert [piece.kind for piece in pieces] == ["same", "gone", "new", "same"]
    assert all(len(piece.text) < 200 for piece in pieces)


def test_statistics_are_drawn_as_far_as_they_are_there() -> None:
    drawn = pictures({"not_json": 1, "refusal": 3}, {"tokens": 100, "targets": 25, "languages": {"de": 2}})
    shown = {picture["title"]: [(bar["name"], bar["share"]) for bar in picture["bars"]] for picture in drawn}
    severities = [("Error", 25.0), ("Note", 75.0)]
    tokens = [("Trained", 25.0), ("Context", 75.0)]
    assert shown == {"Findings by severity": severities, "Tokens": tokens, "Languages": [("DE", 100.0)]}
    assert pictures(None, None) == []


def test_lengths_are_bars_with_a_line_at_max_length() -> None:
    bars = [{"from": 0, "to": 100, "records": 4}, {"from": 100, "to": 200, "records": 1}]
    drawn = histogram({"lengths": {"histogram": bars}}, 150)
    assert drawn is not None and (drawn["limit"], [bar["height"] for bar in drawn["bars"]]) == (75.0, [100.0, 25.0])
    assert histogram({"lengths": None}, 150) is None


def test_the_exact_tokens_are_those_of_the_statistics(center: Center) -> None:
    center.upload(rows(5))
    total = center.get("/api/datasets/1/statistics").json()["tokens"]["total"]
    page = center.get("/datasets/1/_tokens").text
    assert f"<dd>{total:,}</dd>" in page and "Tokens by role" in page and "<rect" in page


def test_every_kind_of_finding_is_shown_on_both_pages(center: Center, tmp_path: Path) -> None:
    """All faults that are planted, and a leak: the pages of the dataset by kind, and of each record that has one."""
    made = tmp_path / "leo.jsonl"
    subprocess.run([sys.executable, REPOSITORY / "examples" / "make_leo_like.py", made, "--rows", "200"], check=True)
    train = center.upload(made.read_bytes() + jsonl(record("Only here?", "yes")), "train.jsonl")["id"]
    own = center.upload(made.read_bytes() + jsonl(record("only HERE?", "yes")), "own.jsonl")["id"]
    for dataset in (train, own):
        center.wait_for_dataset(dataset)
    center.post(f"/api/datasets/{own}/compare", json={"datasets": [train]})
    kinds = center.wait_for_dataset(own)["findings"]
    assert len(kinds) > 12 and "leakage" in kinds
    lines: dict[int, set[str]] = {}
    for kind in kinds:
        found = center.get(f"/api/datasets/{own}/findings?kind={kind}&limit=500").json()["items"]
        page = center.get(f"/datasets/{own}?of={kind}")
        assert page.status_code == 200 and found[0]["message"] in html.unescape(page.text)
        for one in found[:5]:
            lines.setdefault(one["line"], set()).add(one["message"])
    assert center.get(f"/datasets/{own}").status_code == 200
    for line, messages in lines.items():
        page = center.get(f"/datasets/{own}/records/{line}")
        assert page.status_code == 200
        assert [one for one in messages if one not in html.unescape(page.text)] == []
