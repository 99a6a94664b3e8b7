"""The page of recipes: what each sets, the way into a job, and out of the list and back."""

import html
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from app.config import Settings
from app.routes import pages_form, setting_words
from app.schemas import TrainingConfig
from tests.factories import Center, rows

NIGHT = {"lora_r": 16, "learning_rate": 1e-4, "max_length": 4096, "truncation": "left", "keep_best": False, "seed": 42}


def make(center: Center, name: str, **config: Any) -> None:
    answer = center.client.put(f"/api/recipes/{quote(name)}", headers=center.headers, json={"config": config})
    assert answer.status_code == 200, answer.text


def text(center: Center) -> str:
    """The words of the page, each once separated."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", center.get("/recipes").text)).split())


def press(center: Center, name: str, action: str) -> dict[str, Any]:
    answer = center.post(f"/recipes/{quote(name)}/{action}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = json.loads(answer.headers["hx-trigger"])["toast"]
    return told | {"html": answer.text}


def test_a_recipe_shows_what_differs_from_the_defaults(center: Center) -> None:
    make(center, "night", **NIGHT)
    shown = text(center)
    assert "night Changed just now by REST Delete New job with it" in shown
    for words in ("Rank (r) 16 usually 32", "Learning rate 1e-4 usually 2e-4", "Context 4,096 tokens usually 2,048"):
        assert words in shown
    assert "Too long examples Cut at the start usually leave out" in shown and "Keep the best one too off" in shown
    assert "Seed" not in shown


def test_a_system_prompt_is_shown_whole_and_escaped(center: Center) -> None:
    make(center, "json", system_prompt="Answer <b>in</b> JSON.\nNothing else.")
    make(center, "silent", system_prompt="")
    make(center, "plain")
    assert "Answer &lt;b&gt;in&lt;/b&gt; JSON.\nNothing else." in center.get("/recipes").text
    assert "System prompt (empty)" in text(center) and "All settings are the defaults." in text(center)


def test_settings_are_named_as_the_form_names_them(center: Center) -> None:
    center.upload(rows(3))
    form = center.get("/jobs/new").text
    fields = dict(re.findall(r'<label for="f-(\w+)">([^<]+)</label>', form))
    boxes = dict(re.findall(r'<input type="checkbox" name="(\w+)"[^>]*> ([^<]+)</label>', form))
    named = {name: words for name, words in (fields | boxes).items() if name in pages_form.CONFIG_FIELDS}
    assert named == setting_words.LABELS
    for name, choices in setting_words.CHOICES.items():
        found = re.search(rf'<select[^>]* name="{name}">(.*?)</select>', form, re.DOTALL)
        assert found and dict(re.findall(r'<option value="(\w+)"[^>]*>([^<]+)<', found[1])) == choices


@pytest.mark.parametrize("name", sorted(TrainingConfig.model_fields))
def test_every_setting_has_words(name: str) -> None:
    assert isinstance(setting_words.in_words(name, getattr(TrainingConfig(), name)), str)


def test_the_first_recipe_is_asked_for_where_there_is_none(center: Center) -> None:
    assert "No recipes yet" in text(center) and "Save as recipe" in text(center) and "Deleted" not in text(center)
    center.upload(rows(3))
    for page in ("/jobs", "/jobs/new", "/inbox"):
        assert 'href="/recipes"' in center.get(page).text


@pytest.mark.parametrize("name", ["night", "für die Nacht 1.5+x"])
def test_a_recipe_is_deleted_and_taken_back_by_its_buttons(center: Center, name: str) -> None:
    center.upload(rows(3))
    make(center, name, lora_r=24)
    begin = re.search(r'href="(/jobs/new[^"]*)"> *<svg[^>]*>.*?</svg> New job with it', center.get("/recipes").text)
    assert begin and 'name="lora_r" value="24"' in center.get(html.unescape(begin[1])).text
    gone = press(center, name, "_delete")
    assert gone["text"] == f"Deleted the recipe {name}." and gone["undo"] == f'[data-recipe="{name}"] [data-restore]'
    assert "data-restore" in gone["html"] and "New job with it" not in gone["html"]
    assert f"{name} Deleted just now Restore" in text(center)
    back = press(center, name, "_restore")
    assert back["undo"] is None and "New job with it" in back["html"] and "Deleted" not in text(center)


def test_the_buttons_work_without_script(center: Center) -> None:
    make(center, "night", lora_r=24)
    for action, num_left in (("delete", 0), ("restore", 1)):
        answer = center.post(f"/recipes/night/{action}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/recipes")
        assert len(center.get("/api/recipes").json()["items"]) == num_left
    assert center.post("/recipes/other/delete").status_code == 404


def test_the_default_recipe_is_marked_and_missed(center: Center, settings: Settings) -> None:
    center.app.state.settings = settings.model_copy(update={"default_recipe": "night"})
    assert "There is no recipe night" in text(center) and "the recipe night" in center.get("/inbox").text.replace(
        '<a href="/recipes">', ""
    )
    make(center, "night", lora_r=24)
    assert "night Default" in text(center) and "There is no recipe" not in text(center)
    assert "files of the inbox wait" in press(center, "night", "_delete")["text"]
