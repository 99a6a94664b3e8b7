"""Recipes: training configurations under a name, that jobs, the form and files of the inbox start from."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, ValidationError
from sqlmodel import Session

from app.columns import utc_now
from app.errors import NotFound, WrongInput, wrong_field
from app.hub import iso
from app.schemas import Body, TrainingConfig, field_errors, read_config
from app.services import retention, settings

SETTING = "recipes"
MOST, FEW = 200, 10
NAME = re.compile(r"[\w][\w .+-]{0,99}")
Kept = dict[str, dict[str, Any]]


class NewRecipe(Body):
    """The body of `PUT /api/recipes/{name}`: keys of the configuration; those left out keep their defaults."""

    config: dict[str, Any] = Field(default_factory=dict)


def names(session: Session) -> list[str]:
    return sorted(_all(session))


def default_name(session: Session, named: str | None) -> str | None:
    """The recipe that --default-recipe names, where it was made."""
    return named if named in _all(session) else None


def views(session: Session, trashed: bool = False) -> list[dict[str, Any]]:
    """All of them, or those that were deleted and can be taken back, by name."""
    found = _trashed(session) if trashed else _all(session)
    return [{"name": name, **recipe} for name, recipe in sorted(found.items())]


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
        raise wrong_field("name", "must be up to 100 letters, digits, spaces and . _ + -, without a slash")
    try:
        config = NewRecipe.model_validate(body).config
    except ValidationError as error:
        detail = field_errors(error)
        raise WrongInput("; ".join(f"{one['field']}: {one['message']}" for one in detail), detail) from None
    read_config(config)
    found = _all(session)
    if name not in found:
        _require_room(found)
    found[name] = {"config": config, "changed_at": iso(utc_now()), "changed_by": who}
    _put(session, found, {key: value for key, value in _trashed(session).items() if key != name})
    return {"name": name, **found[name]}


def remove(session: Session, name: str) -> dict[str, Any]:
    """Into the trash, out of which `restore` takes it until it expires; raises `NotFound`."""
    view(session, name)
    found = _all(session)
    gone = found.pop(name) | {"trashed_at": iso(utc_now())}
    _put(session, found, _trashed(session) | {name: gone})
    return {"name": name, **gone}


def restore(session: Session, name: str) -> dict[str, Any]:
    """Out of the trash again; raises `NotFound` where it is in neither, `WrongInput` where there are too many."""
    found, gone = _all(session), _trashed(session)
    if name in gone:
        _require_room(found)
        found[name] = {key: value for key, value in gone.pop(name).items() if key != "trashed_at"}
        _put(session, found, gone)
    return view(session, name)


def of_job(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a whole configuration differs from the defaults."""
    default = TrainingConfig().model_dump()
    return {key: value for key, value in config.items() if key in default and value != default[key]}


def _all(session: Session) -> Kept:
    return {name: recipe for name, recipe in _read(session).items() if "trashed_at" not in recipe}


def _trashed(session: Session) -> Kept:
    """What was deleted and has not expired."""
    since = utc_now() - timedelta(days=retention.read(session).trash_days)
    gone = {name: recipe for name, recipe in _read(session).items() if "trashed_at" in recipe}
    return {name: recipe for name, recipe in gone.items() if datetime.fromisoformat(recipe["trashed_at"]) > since}


def _read(session: Session) -> Kept:
    return dict(settings.read(session, SETTING)[0] or {})


def _put(session: Session, found: Kept, gone: Kept) -> None:
    """Of the deleted ones the newest are kept, as many as there may be recipes."""
    newest = sorted(gone, key=lambda name: str(gone[name]["trashed_at"]), reverse=True)[:MOST]
    settings.put(session, SETTING, found | {name: gone[name] for name in newest})


def _require_room(found: Kept) -> None:
    if len(found) >= MOST:
        raise wrong_field("name", f"would be more than {MOST} recipes; delete one first")


def _there_are(found: Mapping[str, Any]) -> str:
    named = sorted(found)
    more = f" and {len(named) - FEW} more" if len(named) > FEW else ""
    return f"there are {', '.join(named[:FEW])}{more}" if named else "none was made yet"
