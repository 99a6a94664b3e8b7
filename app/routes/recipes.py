"""Recipes by REST."""

from typing import Any

from fastapi import APIRouter

from app.db import DatabaseDep
from app.routes.params import JsonBody, Who
from app.services import recipes

router = APIRouter(prefix="/api/recipes")


@router.get("")
@router.get("/", include_in_schema=False)
def list_recipes(database: DatabaseDep, trashed: bool = False) -> dict[str, Any]:
    """All of them, by name, or those that can be taken back; there are too few to be paged."""
    with database.read() as session:
        return {"items": recipes.views(session, trashed), "next": None}


@router.get("/{name:path}")
def show_recipe(database: DatabaseDep, name: str) -> dict[str, Any]:
    with database.read() as session:
        return recipes.view(session, name)


@router.put("/{name:path}")
def save_recipe(database: DatabaseDep, who: Who, name: str, body: JsonBody) -> dict[str, Any]:
    """Make a recipe or replace it: `{"config": {…}}`. Jobs that began with it keep their settings."""
    with database.write() as session:
        return recipes.save(session, name, body, who)


@router.delete("/{name:path}", status_code=204)
def delete_recipe(database: DatabaseDep, name: str) -> None:
    """To the trash; jobs that began with it keep their settings."""
    with database.write() as session:
        recipes.remove(session, name)


@router.post("/{name}/restore")
def restore_recipe(database: DatabaseDep, name: str) -> dict[str, Any]:
    with database.write() as session:
        return recipes.restore(session, name)
