"""A dataset in numbers: its tokens are those that the trainer would make."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.conversations.normalize import with_system_prompt
from app.conversations.reader import valid_conversations
from app.conversations.render import Renderer
from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from tests.factories import Center, jsonl, record, rows
from tests.tiny import picture_conversation

RECORDS = [*(record(f"Where is town {n}?", {"at": "x " * n}) for n in range(30)), picture_conversation(1)]


def statistics(center: Center, query: str = "") -> dict[str, Any]:
    dataset = center.upload(jsonl(*RECORDS, RECORDS[3]) + b"{}\n")
    answer = center.get(f"/api/datasets/{dataset['id']}/statistics{query}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_tokens_are_those_of_the_trainer(center: Center, tmp_path: Path) -> None:
    shown = statistics(center)
    write_tiny_tokenizer(tmp_path / "model")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(*RECORDS, RECORDS[3]))
    renderer = Renderer.load(tmp_path / "model")
    prompt = "You are a helpful assistant."
    wanted = [renderer.encode(with_system_prompt(one, prompt)[0]) for _, one in valid_conversations(path)]
    tokens = shown["tokens"]
    assert tokens["total"] == sum(len(one.ids) for one in wanted)
    assert tokens["target"] == sum(one.num_targets for one in wanted)
    assert tokens["image"] == sum(one.roles.count("image") for one in wanted) > 0
    assert tokens["target"] + tokens["context"] + tokens["image"] == tokens["total"]
    assert tokens["roles"].keys() == {"system", "user", "assistant"}
    assert sum(tokens["roles"].values()) == tokens["total"]


def test_lengths_stand_in_bars_beside_the_longest_that_is_allowed(center: Center) -> None:
    shown = statistics(center, "?max_length=64")
    lengths = shown["lengths"]
    assert sum(bar["records"] for bar in lengths["histogram"]) == shown["records"] == 32
    assert lengths["histogram"][-1]["from"] <= lengths["longest"] < lengths["histogram"][-1]["to"]
    assert 0 < lengths["over"] < 32 and lengths["median"] <= lengths["longest"]


def test_duplicates_images_and_what_the_default_recipe_takes(center: Center) -> None:
    shown = statistics(center)
    assert (shown["num_records"], shown["num_valid"], shown["duplicates"]["exact"]) == (33, 32, 1)
    assert shown["images"]["number"] == 1
    assert shown["estimate"]["num_steps"] > 0 and shown["estimate"]["memory"]["total"] > 0


@pytest.mark.parametrize(("query", "status"), [("?model=no/such", 422), ("?max_length=1", 422)])
def test_what_cannot_be_counted_is_said(center: Center, query: str, status: int) -> None:
    dataset = center.upload(jsonl(*RECORDS))
    assert center.get(f"/api/datasets/{dataset['id']}/statistics{query}").status_code == status


def test_a_dataset_that_is_not_ready_has_no_numbers(center: Center) -> None:
    refused = center.upload(json.dumps({}).encode())
    assert center.get(f"/api/datasets/{refused['id']}/statistics").status_code == 409


def test_the_page_tells_what_a_job_would_take(center: Center) -> None:
    dataset = center.upload(rows(30))["id"]
    shown = center.get(f"/datasets/{dataset}/_tokens").text
    assert "A job with the usual settings" in shown and "4 steps" in shown and " MB" in shown
