"""A dataset in numbers: its tokens are those that the trainer would make."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.config import Settings
from app.conversations.normalize import with_system_prompt
from app.conversations.reader import valid_conversations
from app.conversations.render import Renderer
from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.routes import statistics as numbers
from app.services.base_models import BaseModels
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


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?model=no/such", 422),
        ("?model=" + "m" * 300, 422),
        ("?model=%00", 422),
        ("?model=.", 422),
        ("?max_length=1", 422),
        ("?recipe=other", 422),
    ],
)
def test_what_cannot_be_counted_is_said(center: Center, query: str, status: int) -> None:
    dataset = center.upload(jsonl(*RECORDS))
    assert center.get(f"/api/datasets/{dataset['id']}/statistics{query}").status_code == status


def test_all_that_is_wrong_is_named_at_once(center: Center) -> None:
    dataset = center.upload(rows(3))["id"]
    told = center.get(f"/api/datasets/{dataset}/statistics?model=no/such&recipe=other").json()["error"]
    assert [one["field"] for one in told["detail"]] == ["model", "recipe"]


def test_a_dataset_that_is_not_ready_has_no_numbers(center: Center) -> None:
    refused = center.upload(json.dumps({}).encode())
    assert center.get(f"/api/datasets/{refused['id']}/statistics").status_code == 409


def test_the_page_tells_what_a_job_would_take(center: Center) -> None:
    dataset = center.upload(rows(30))["id"]
    shown = center.get(f"/datasets/{dataset}/_tokens").text
    assert "A job with the usual settings" in shown and "4 steps" in shown and " MB" in shown


def keep(center: Center, name: str, **config: Any) -> None:
    assert center.client.put(f"/api/recipes/{name}", headers=center.headers, json={"config": config}).is_success


@pytest.fixture
def default(center: Center, settings: Settings) -> int:
    """A dataset of 30 rows where `night` is the default recipe and `short` another one."""
    keep(center, "night", epochs=3, max_length=64, system_prompt="Answer.")
    keep(center, "short", max_steps=7)
    center.app.state.settings = settings.model_copy(update={"default_recipe": "night"})
    return int(center.upload(rows(30))["id"])


@pytest.mark.parametrize(
    ("query", "recipe", "steps", "length"),
    [
        ("", "night", 12, 64),
        ("?recipe=short", "short", 7, 2048),
        ("?recipe=", None, 4, 2048),
        ("?max_length=99", "night", 12, 99),
    ],
)
def test_the_settings_are_those_of_the_recipe(
    center: Center, default: int, query: str, recipe: str | None, steps: int, length: int
) -> None:
    shown = center.get(f"/api/datasets/{default}/statistics{query}").json()
    assert (shown["recipe"], shown["estimate"]["num_steps"], shown["max_length"]) == (recipe, steps, length)


def test_tokens_are_those_of_the_recipes_system_prompt(center: Center, default: int) -> None:
    with_recipe, without = (
        center.get(f"/api/datasets/{default}/statistics{query}").json()["tokens"]["roles"] for query in ("", "?recipe=")
    )
    assert with_recipe["system"] < without["system"] and with_recipe["user"] == without["user"]


def test_the_page_names_the_default_recipe(center: Center, default: int) -> None:
    for path in (f"/datasets/{default}/_tokens", f"/datasets/{default}?max_length="):
        shown = center.get(path).text
        assert "A job with the recipe night" in shown and "12 steps" in shown and "Longer than 64 tokens" in shown
        assert '<option value="night" selected>night (default)</option>' in shown
    other = center.get(f"/datasets/{default}/_tokens?recipe=&model=tiny-qwen3-vl&max_length=70").text
    assert "A job with the usual settings" in other and "Longer than 70 tokens" in other and 'value="70"' in other


def test_the_page_asks_for_the_numbers_unless_the_form_was_sent(center: Center, default: int) -> None:
    usual = center.get(f"/datasets/{default}").text
    assert f'hx-get="/datasets/{default}/_tokens" hx-trigger="load"' in usual and "Tokens by role" not in usual
    chosen = center.get(f"/datasets/{default}?model=tiny-qwen3-vl&recipe=short&max_length=").text
    assert "A job with the recipe short" in chosen and f"/datasets/{default}/_tokens?" not in chosen


def test_the_page_asks_again_while_tokens_are_counted(
    center: Center, default: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "PATIENCE_S", 0.0)
    shown = center.get(f"/datasets/{default}/_tokens?recipe=short").text
    assert "Tokens are being counted" in shown
    assert f'hx-get="/datasets/{default}/_tokens?recipe=short" hx-trigger="load delay:1s"' in shown


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("model=no%2Fsuch", "The tokenizer of &#39;no/such&#39; is not on this machine; choose one of tiny-qwen3-vl"),
        ("max_length=15", "Must be at least 16"),
        ("max_length=262145", "Must be at most 262144"),
        ("max_length=lots", "Must be a whole number"),
        ("max_length=%C2%B2", "Must be a whole number"),
        ("max_length=1e999", "Must be a whole number"),
        ("max_length=20.5", "Must be a whole number"),
        ("recipe=gone", "Names no recipe; there are night, rows, short"),
        ("recipe=rows&max_length=512", "row_tokens: is smaller than max_length, so one example may not fit into a row"),
    ],
)
def test_what_is_wrong_is_said_on_the_page_and_kept(center: Center, default: int, query: str, words: str) -> None:
    keep(center, "rows", max_length=128, row_tokens=256)
    for path in (f"/datasets/{default}/_tokens?{query}", f"/datasets/{default}?{query}"):
        answer = center.get(path)
        assert answer.status_code == 200 and answer.text.count(words) == 1, answer.text
        for name, typed in parse_qsl(query):
            kept = f'value="{typed}" selected' if name == "recipe" else f'name="{name}" value="{typed}"'
            assert kept in answer.text
        assert "being counted" not in answer.text and "Tokens by role" not in answer.text


def test_a_default_model_that_is_not_here_is_said_on_the_page(center: Center, default: int) -> None:
    center.app.state.base_models = BaseModels((), True, "Qwen/Qwen3-VL-8B-Instruct")
    shown = center.get(f"/datasets/{default}/_tokens").text
    assert "is not on this machine" in shown and 'value="Qwen/Qwen3-VL-8B-Instruct"' in shown
