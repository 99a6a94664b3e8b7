"""Recipes by REST."""

from typing import Any

from fastapi import APIRouter

from app.db import DatabaseDep
from app.routes.params import JsonBody, Who
from app.services import recipes

router = APIRouter(prefix="/api/recipes")


@router.get("")
def list_recipes(database: DatabaseDep) -> dict[str, Any]:
    """All of them, by name; there are too few to be paged."""
    with database.read() as session:
        return {"items": recipes.views(session), "next": None}


@router.get("/{name}")
def show_recipe(database: DatabaseDep, name: str) -> dict[str, Any]:
    with database.read() as session:
        return recipes.view(session, name)


@router.put("/{name}")
def save_recipe(database: DatabaseDep, who: Who, name: str, body: JsonBody) -> dict[str, Any]:
    """Make a recipe or replace it: `{"config": {…}}`. Jobs that began with it keep their settings."""
    with database.write() as session:
        return recipes.save(session, name, body, who)


@router.delete("/{name}", status_code=204)
def delete_recipe(database: DatabaseDep, name: str) -> None:
    with database.write() as session:
        recipes.remove(session, name)
