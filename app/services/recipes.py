"""Recipes: training configurations under a name, that jobs, the form and files of the inbox start from."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError
from sqlmodel import Session

from app.columns import utc_now
from app.errors import NotFound, WrongInput, wrong_field
from app.hub import iso
from app.schemas import Body, TrainingConfig, field_errors, read_config
from app.services import settings

SETTING = "recipes"
MOST, FEW = 200, 10
NAME = re.compile(r"[\w][\w .+-]{0,99}")


class NewRecipe(Body):
    """The body of `PUT /api/recipes/{name}`: keys of the configuration; those left out keep their defaults."""

    config: dict[str, Any] = Field(default_factory=dict)


def names(session: Session) -> list[str]:
    return sorted(_all(session))


def views(session: Session) -> list[dict[str, Any]]:
    """All of them, by name."""
    return [{"name": name, **recipe} for name, recipe in sorted(_all(session).items())]


def view(session: Session, name: str) -> dict[str, Any]:
    """One as the API shows it; raises `NotFound`."""
    found = _all(session)
    if name not in found:
        raise NotFound(f"There is no recipe {name!r}; {_there_are(found)}.")
    return {"name": name, **found[name]}


def config_of(session: Session, name: Any) -> dict[str, Any]:
    """The keys a recipe sets; raises `WrongInput` where there is none of that name."""
    found = _all(session)
    if not isinstance(name, str) or name not in found:
        raise wrong_field("recipe", f"names no recipe; {_there_are(found)}")
    return dict(found[name]["config"])


def save(session: Session, name: str, body: Any, who: str) -> dict[str, Any]:
    """Make one or replace it; raises `WrongInput` that names every wrong key. Jobs keep what they began with."""
    if not NAME.fullmatch(name) or name != name.strip():
        raise wrong_field("name", "must be up to 100 letters, digits, spaces and . _ + -")
    try:
        config = NewRecipe.model_validate(body).config
    except ValidationError as error:
        detail = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in detail), detail) from None
    read_config(config)
    found = _all(session)
    if name not in found and len(found) >= MOST:
        raise wrong_field("name", f"would be more than {MOST} recipes; delete one first")
    found[name] = {"config": config, "changed_at": iso(utc_now()), "changed_by": who}
    settings.put(session, SETTING, found)
    return {"name": name, **found[name]}


def remove(session: Session, name: str) -> None:
    view(session, name)
    settings.put(session, SETTING, {key: value for key, value in _all(session).items() if key != name})


def of_job(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a whole configuration differs from the defaults."""
    default = TrainingConfig().model_dump()
    return {key: value for key, value in config.items() if key in default and value != default[key]}


def _all(session: Session) -> dict[str, dict[str, Any]]:
    return dict(settings.read(session, SETTING)[0] or {})


def _there_are(found: Mapping[str, Any]) -> str:
    named = sorted(found)
    more = f" and {len(named) - FEW} more" if len(named) > FEW else ""
    return f"there are {', '.join(named[:FEW])}{more}" if named else "none was made yet"
