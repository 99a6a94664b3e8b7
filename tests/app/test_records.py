"""Records as pages and by REST: the view of one, the way to the next, the search, the pictures in them."""

import base64
import html
import io
import json
import re
from pathlib import Path

import PIL.Image
import pytest

from app.services import search
from app.services.raw_text import indented
from tests.factories import Center, jsonl, record, rows


def picture_uri(format: str, **more: str) -> str:
    data = io.BytesIO()
    PIL.Image.new("RGB", (40, 60), "green").save(data, format)
    return f"data:image/{format.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def with_picture(format: str) -> dict[str, object]:
    parts = [{"type": "image_url", "image_url": {"url": picture_uri(format)}}, {"type": "text", "text": "Colour?"}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "green"}]}


def shown_tokens(page: str) -> list[tuple[int, str]]:
    """(id, role) of every token on a page."""
    found = []
    parts = r'<span class="part (\w+)"[^>]*><span class="unseen">.*?</span>(.*?)</span>'
    for role, part in re.findall(parts, page, re.S):
        for number, times in re.findall(r'<i title="\d+ · id (\d+) · [^"]*"(?: data-times="(\d+)")?>', part):
            found += [(int(number), role)] * int(times or 1)
    return found


def lines_of(center: Center, query: str) -> list[int]:
    return [hit["line"] for hit in center.get(f"/api/datasets/1/search?{query}").json()["items"]]


def go(center: Center, place: str) -> str:
    """Where the way to the next or previous record leads."""
    answer = center.get(f"/datasets/1/records/{place}", follow_redirects=False)
    assert answer.status_code == 303
    return str(answer.headers["location"]).removeprefix("/datasets/1/records/")


def test_the_page_of_a_record_shows_each_token_as_the_api_says(center: Center) -> None:
    center.upload(jsonl(with_picture("PNG")))
    one_less = len(center.get("/api/datasets/1/records/1").json()["tokens"]) - 1
    query = f"records/1?max_length={one_less}"
    tokens = center.get(f"/api/datasets/1/{query}").json()["tokens"]
    assert shown_tokens(center.get(f"/datasets/1/{query}").text) == [(token["id"], token["role"]) for token in tokens]
    assert {token["role"] for token in tokens} == {"context", "image", "target", "cut"}


def test_only_the_answer_is_shown_as_trained(center: Center) -> None:
    center.upload(jsonl(record("How many?", 7)))
    page = center.get("/datasets/1/records/1").text
    trained = "".join(re.findall(r"<i title=[^>]* trained\">([^<]*)</i>", page))
    assert html.unescape(trained) == "7<|im_end|>"


def test_a_system_prompt_can_be_chosen(center: Center) -> None:
    center.upload(rows(1))
    assert "Speak French." in center.get("/datasets/1/records/1?system_prompt=Speak+French.").text


def test_a_model_that_is_not_here_is_named_and_the_record_still_shown(center: Center) -> None:
    center.upload(rows(1))
    page = center.get("/datasets/1/records/1?model=Qwen/Qwen3-VL-8B-Instruct").text
    assert "is not on this machine" in page and "What is 0 + 0?" in page and shown_tokens(page) == []


def test_the_findings_of_a_record_say_why_and_what_to_do(center: Center) -> None:
    center.upload(b"nope\n" + rows(1))
    page = center.get("/datasets/1/records/1").text
    assert "The line cannot be read." in page and "Write one JSON object a line" in page


def test_a_line_that_is_not_there_is_named(center: Center) -> None:
    center.upload(rows(3))
    assert "no record on line 9" in center.get("/datasets/1/records/9").text


def test_what_a_record_holds_is_text_and_never_markup(center: Center) -> None:
    center.upload(jsonl(record("<script>alert(1)</script>", "<b>bold</b>")))
    page = center.get("/datasets/1/records/1").text
    assert "alert(1)" in page and "<script>alert" not in page and "<b>bold" not in page


def test_findings_are_filtered_by_kind_and_each_leads_to_its_record(center: Center) -> None:
    center.upload(b"nope\n" + jsonl(record("a", "b"), {"messages": []}))
    page = center.get("/datasets/1/_findings?of=wrong_shape").text
    assert "/records/3?kind=wrong_shape" in page and "/records/1?" not in page


def test_next_and_previous_pass_over_blank_lines_and_say_where_they_end(center: Center) -> None:
    one, two = rows(2).splitlines()
    center.upload(one + b"\n\n" + two + b"\n")
    assert [go(center, "1/next"), go(center, "3/previous"), go(center, "3/next")] == ["3", "1", "3?end=true"]


def test_next_and_previous_stay_within_a_kind_of_finding(center: Center) -> None:
    center.upload(b"nope\n" + rows(3) + b"nope\n")
    places = ["1/next?kind=not_json", "5/previous?kind=not_json", "5/next?kind=not_json"]
    assert [go(center, place) for place in places] == ["5?kind=not_json", "1?kind=not_json", "5?kind=not_json&end=true"]


def test_next_and_previous_stay_within_a_search(center: Center) -> None:
    center.upload(jsonl(*[record(f"about {word}", "yes") for word in ("cats", "dogs", "Cats")]))
    assert [go(center, "1/next?q=cats"), go(center, "3/previous?q=cats")] == ["3?q=cats", "1?q=cats"]


def test_the_place_within_a_filter_is_told(center: Center) -> None:
    center.upload(b"nope\n" + rows(1) + b"nope\n")
    assert "2 of 2 records" in center.get("/datasets/1/records/3?severity=error").text


@pytest.mark.parametrize("query", ["zürich", "Zürich 日本", 'say "hi"', "\\dir"])
def test_the_search_finds_a_text_however_json_writes_it(center: Center, query: str) -> None:
    text = 'In Zürich 日本 they say "hi" in C:\\dir'
    center.upload(jsonl(record("nothing", "x")) + json.dumps(record(text, "y")).encode() + b"\n" + rows(1))
    answer = center.get("/api/datasets/1/search", params={"q": query})
    assert [hit["line"] for hit in answer.json()["items"]] == [2]


def test_the_bytes_of_a_picture_are_not_searched(center: Center) -> None:
    center.upload(jsonl(with_picture("PNG")))
    assert (lines_of(center, "q=iVBOR"), lines_of(center, "q=colour")) == ([], [1])


def test_a_search_is_narrowed_by_kind_and_severity(center: Center) -> None:
    center.upload(b"nope what\n" + rows(2) + b"what?\n")
    assert lines_of(center, "q=what") == [1, 2, 3, 4]
    assert lines_of(center, "q=what&kind=not_json") == lines_of(center, "severity=error") == [1, 4]


def test_all_hits_are_found_page_by_page(center: Center) -> None:
    center.upload(rows(7))
    found = list[int]()
    after: str | None = ""
    while after is not None:
        page = center.get(f"/api/datasets/1/search?q=what&limit=3&after={after}").json()
        found, after = found + [hit["line"] for hit in page["items"]], page["next"]
    assert found == [1, 2, 3, 4, 5, 6, 7]


def test_a_search_that_takes_long_stops_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(rows(200))
    hits, place = search.find(path, "199 + 199", None, search.Place(), 5, seconds=0)
    assert hits == [] and place is not None and place.line == search.LINES_PER_LOOK
    assert [hit.line for hit in search.find(path, "199 + 199", None, place, 5)[0]] == [200]


def test_a_cursor_that_is_none_is_refused(center: Center) -> None:
    center.upload(rows(1))
    answer = center.get("/api/datasets/1/search?after=x")
    assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, "after")


@pytest.mark.parametrize(("format", "kind"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("TIFF", "image/png")])
def test_a_picture_is_served_as_what_it_is_and_may_do_nothing(center: Center, format: str, kind: str) -> None:
    center.upload(jsonl(with_picture(format)))
    answer = center.get("/api/datasets/1/records/1/images/0")
    assert PIL.Image.open(io.BytesIO(answer.content)).size == (40, 60)
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == (kind, "nosniff")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_picture_needs_a_session_and_must_be_there(center: Center) -> None:
    center.upload(jsonl(with_picture("PNG")))
    assert center.client.get("/api/datasets/1/records/1/images/0").status_code == 401
    assert center.get("/api/datasets/1/records/1/images/1").status_code == 404


@pytest.mark.parametrize("value", [{"a": [{"b": 1, "c": []}, {}], "d": "x\n{y}"}, [[]], "s", [1, [2, {"k": {}}]], 7])
def test_a_raw_line_is_indented_as_json_is(value: object) -> None:
    assert indented(json.dumps(value)) == json.dumps(value, indent=2)


def test_a_raw_line_keeps_its_numbers_escapes_and_repeated_keys() -> None:
    assert indented('{"a":1.50,"a":"\\u00fc"}') == '{\n  "a": 1.50,\n  "a": "\\u00fc"\n}'


@pytest.mark.parametrize("asked", ["kind=nope", "severity=bad"])
def test_a_search_for_what_does_not_exist_is_told(center: Center, asked: str) -> None:
    center.upload(rows(3))
    answer = center.get(f"/api/datasets/1/search?{asked}")
    assert (answer.status_code, answer.json()["error"]["detail"][0]["field"]) == (422, asked.split("=", maxsplit=1)[0])


def test_an_answer_that_is_only_read_says_so(center: Center) -> None:
    asked, read = {"role": "user", "content": "q"}, {"role": "assistant", "content": "first", "weight": 0}
    center.upload(jsonl({"messages": [asked, read, asked, {"role": "assistant", "content": "second"}]}))
    shown = center.get("/api/datasets/1/records/1").json()
    assert [(one["content"][0]["text"], one.get("weight")) for one in shown["conversation"]][-3::2] == [
        ("first", 0),
        ("second", None),
    ]
    assert "".join(one["text"] for one in shown["tokens"] if one["role"] == "target").startswith("second")
    assert center.get("/datasets/1/records/1").text.count("weight 0: read, not learned") == 1
