"""Recipes as a page: what each sets, a job that begins with it, and the way to the trash and back."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session

from app.db import Database, DatabaseDep
from app.routes import pages_data as data
from app.routes import setting_words
from app.routes.pages_back import lead_back
from app.services import recipes, retention
from app.templating import render

router = APIRouter(prefix="/recipes", include_in_schema=False)

Act = Callable[[Session, str], dict[str, Any]]


@router.get("")
def show_recipes(request: Request, database: DatabaseDep) -> HTMLResponse:
    named = _default(request)
    with database.read() as session:
        kept, gone = recipes.views(session), recipes.views(session, trashed=True)
        missing = named is not None and recipes.default_name(session, named) is None
        context: dict[str, Any] = {
            "recipes": [_row(one, named) for one in kept],
            "gone": [_row(one, named) for one in gone],
            "missing": named if missing else None,
            "keep": retention.read(session).trash_days,
        }
        return render(request, "recipes/list.html", **context, **data.shell(session))


def _default(request: Request) -> str | None:
    named: str | None = request.app.state.settings.default_recipe
    return named or None


def _row(view: dict[str, Any], default: str | None) -> dict[str, Any]:
    """A recipe as the page shows it."""
    config = view["config"]
    own = {
        "trashed_at": view.get("trashed_at"),
        "is_default": view["name"] == default,
        "settings": setting_words.differences(config),
        "prompt": recipes.of_job(config).get(setting_words.PROMPT),
    }
    return view | own


def _add_button(action: str, act_on: Act, words: str) -> None:
    """A button twice: with script it answers with the recipe and the other button, without it goes back to the page."""

    def act(database: Database, name: str) -> dict[str, Any]:
        with database.write() as session:
            return act_on(session, name)

    @router.post(f"/{{name}}/_{action}", name=f"{action}_recipe_live")
    def act_live(request: Request, database: DatabaseDep, name: str) -> HTMLResponse:
        one = _row(act(database, name), _default(request))
        told = words.format(name=name)
        if one["is_default"] and one["trashed_at"]:
            told += " It is the default: files of the inbox wait until there is one of that name."
        undo = f'[data-recipe="{name}"] [data-restore]' if one["trashed_at"] else None
        toast = json.dumps({"toast": {"kind": "ok", "text": told, "undo": undo}})
        return render(request, "recipes/_recipe.html", headers={"HX-Trigger": toast}, one=one)

    @router.post(f"/{{name}}/{action}", name=f"{action}_recipe")
    def act_plain(database: DatabaseDep, name: str) -> RedirectResponse:
        act(database, name)
        return RedirectResponse("/recipes", 303)

    lead_back(router, f"/{{name}}/{action}", "/recipes")


_add_button("delete", recipes.remove, "Deleted the recipe {name}.")
_add_button("restore", recipes.restore, "Restored the recipe {name}.")
