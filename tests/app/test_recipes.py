"""Recipes: settings under a name that jobs, the form and the inbox start from."""

import pytest
from httpx2 import Response

from app.config import Settings
from app.routes import pages_form
from app.services import recipes
from tests.factories import Center, rows

CHECK = {"config": {"lora_r": 8, "max_steps": 20}}


def test_many_recipes_are_not_all_named(center: Center) -> None:
    for number in range(12):
        put(center, f"r{number:02}", CHECK)
    told = center.get("/api/recipes/x").json()["error"]["message"]
    assert "r09 and 2 more" in told and "r10" not in told


def put(center: Center, name: str, body: object) -> Response:
    return center.client.put(f"/api/recipes/{name}", headers=center.headers, json=body)


def test_a_job_takes_the_settings_of_a_recipe_and_its_own_before_them(center: Center) -> None:
    assert put(center, "small", CHECK).json()["config"] == CHECK["config"]
    body = {"dataset_id": center.upload(rows(3))["id"], "model": "tiny-qwen3-vl", "recipe": "small"}
    job = center.post("/api/jobs", json=body | {"config": {"max_steps": 7}}).json()
    assert (job["config"]["lora_r"], job["config"]["max_steps"]) == (8, 7)
    history = center.get(f"/api/jobs/{job['id']}/history").json()["items"]
    assert history[0]["detail"] == {"recipe": "small"}
    put(center, "small", {"config": {"lora_r": 16}})
    assert center.get(f"/api/jobs/{job['id']}").json()["config"]["lora_r"] == 8
    assert [one["name"] for one in center.get("/api/recipes").json()["items"]] == ["small"]


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(center: Center) -> None:
    put(center, "small", CHECK)
    body = {"dataset_id": center.upload(rows(3))["id"], "model": "tiny-qwen3-vl", "recipe": "smal"}
    answer = center.post("/api/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "recipe: names no recipe; there are small"
    assert center.get("/api/recipes/smal").status_code == 404


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("small", {"config": {"lora_rank": 8}}, "config.lora_rank"),
        ("small", {"config": {"lora_r": 0}}, "config.lora_r"),
        ("small", {"config": 3}, "config"),
        ("small", {"settings": {}}, "settings"),
        ("small", [], "body"),
        (" small", CHECK, "name"),
        ("x" * 101, CHECK, "name"),
        ("a%2Fb", CHECK, "name"),
        ("a/restore", CHECK, "name"),
        ("", CHECK, "name"),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_field(center: Center, name: str, body: object, field: str) -> None:
    answer = put(center, name, body)
    assert answer.status_code == 422 and answer.json()["error"]["detail"][0]["field"] == field
    assert center.get("/api/recipes").json()["items"] == []


def test_a_recipe_is_removed_and_its_jobs_stay(center: Center) -> None:
    put(center, "small", CHECK)
    body = {"dataset_id": center.upload(rows(3))["id"], "model": "tiny-qwen3-vl", "recipe": "small"}
    job_id = center.post("/api/jobs", json=body).json()["id"]
    assert center.client.delete("/api/recipes/small", headers=center.headers).status_code == 204
    assert center.client.delete("/api/recipes/small", headers=center.headers).status_code == 404
    assert center.get(f"/api/jobs/{job_id}").json()["config"]["lora_r"] == 8


def delete(center: Center, name: str) -> int:
    return int(center.client.delete(f"/api/recipes/{name}", headers=center.headers).status_code)


def names(center: Center, query: str = "") -> list[str]:
    return [one["name"] for one in center.get(f"/api/recipes{query}").json()["items"]]


def test_a_slash_in_a_name_is_told_in_a_sentence(center: Center) -> None:
    told = put(center, "a%2Fb", CHECK).json()["error"]["message"]
    assert told == "name: must be up to 100 letters, digits, spaces and . _ + -, without a slash"
    assert "no recipe 'a/b'" in center.get("/api/recipes/a%2Fb").json()["error"]["message"]
    assert delete(center, "a%2Fb") == 404 and names(center, "/") == []


def test_a_deleted_recipe_is_taken_back(center: Center) -> None:
    put(center, "small", CHECK)
    assert delete(center, "small") == 204
    assert (names(center), names(center, "?trashed=true")) == ([], ["small"])
    restored = center.post("/api/recipes/small/restore").json()
    assert restored["config"] == CHECK["config"] and "trashed_at" not in restored
    assert (names(center), names(center, "?trashed=true")) == (["small"], [])
    assert center.post("/api/recipes/small/restore").status_code == 200
    assert center.post("/api/recipes/other/restore").status_code == 404


def test_one_of_the_same_name_takes_the_place_of_a_deleted_one(center: Center) -> None:
    put(center, "small", CHECK)
    delete(center, "small")
    put(center, "small", {"config": {"lora_r": 4}})
    assert center.post("/api/recipes/small/restore").json()["config"] == {"lora_r": 4}
    assert names(center, "?trashed=true") == []


def test_a_deleted_recipe_goes_when_the_days_of_the_trash_are_over(center: Center) -> None:
    put(center, "small", CHECK)
    delete(center, "small")
    center.client.put("/api/settings/retention", headers=center.headers, json={"trash_days": 0})
    assert names(center, "?trashed=true") == [] and center.post("/api/recipes/small/restore").status_code == 404


def test_deleted_recipes_do_not_count_as_recipes_and_are_not_kept_without_end(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "MOST", 2)
    for name in ("a", "b", "c"):
        assert put(center, name, CHECK).status_code == 200
        assert delete(center, name) == 204
    assert len(names(center, "?trashed=true")) == 2
    put(center, "d", CHECK)
    put(center, "e", CHECK)
    assert put(center, "f", CHECK).status_code == 422
    assert center.post("/api/recipes/c/restore").status_code == 422


def test_the_form_keeps_its_settings_as_a_recipe_and_starts_from_it(center: Center) -> None:
    dataset_id = center.upload(rows(3))["id"]
    default = center.client.get("/jobs/new", headers=center.headers).text
    assert "_from_recipe" not in default
    form = pages_form.blank("tiny-qwen3-vl", dataset_id) | {"lora_r": "8", "recipe_name": "night", "name": "my own"}
    form |= {"model": "Qwen/Other", "mixture": "x 2", "max_temperature": "80", "system_prompt": "a\r\nb"}
    saved = center.client.post("/jobs/_recipe", headers=center.headers, data=form)
    assert saved.status_code == 200 and "kept as the recipe night" in saved.text
    again = center.client.post("/jobs/_recipe", headers=center.headers, data=form)
    assert ("in place of what it held" in saved.text, "in place of what it held" in again.text) == (False, True)
    for kept in ('value="my own"', 'value="Qwen/Other"', 'name="mixture" value="x 2"'):
        assert kept in saved.text
    config = center.get("/api/recipes/night").json()["config"]
    assert config == {"lora_r": 8, "max_temperature": 80, "system_prompt": "a\nb"}
    used = form | {"lora_r": "64", "from_recipe": "night"}
    page = center.client.post("/jobs/_from_recipe", headers=center.headers, data=used).text
    for kept in ('name="lora_r" value="8"', 'value="my own"', 'name="max_temperature" value="80"'):
        assert kept in page
    wrong = center.client.post("/jobs/_recipe", headers=center.headers, data=form | {"recipe_name": ""})
    assert wrong.status_code == 422 and "Must not be empty" in wrong.text and "The recipe was not saved" in wrong.text


def test_the_default_recipe_is_the_forms(center: Center, settings: Settings) -> None:
    center.upload(rows(3))
    put(center, "night", {"config": {"lora_r": 24}})
    center.app.state.settings = settings.model_copy(update={"default_recipe": "night"})
    assert 'value="24"' in center.client.get("/jobs/new", headers=center.headers).text
