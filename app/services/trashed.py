"""What it means for a row to lie in the trash: it stands in no list and is used by nothing."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col

from app.errors import Conflict
from app.hub import iso
from app.models import Adapter, Checkpoint, Dataset, Job

Thing = Dataset | Job | Checkpoint | Adapter
# In `trashed_at` of a row that was purged and stays only because others point at it.
GONE = datetime(1970, 1, 1, tzinfo=UTC)


def shown(table: type[Thing], trashed: bool) -> ColumnElement[bool]:
    """A condition for lists: what lies in the trash, or all that does not."""
    column = col(table.trashed_at)
    return column > GONE if trashed else column.is_(None)


def refuse_trashed(thing: Thing | None) -> None:
    """Raises `Conflict` for something in the trash that would be used."""
    if thing is None or thing.trashed_at is None:
        return
    hint = "it was deleted for good" if thing.trashed_at == GONE else "it is in the trash; restore it first"
    raise Conflict(f"{label(thing)} cannot be used: {hint}.")


def as_told(view: dict[str, Any]) -> dict[str, Any]:
    """A row's view for clients: what was deleted for good lies in no trash, and `gone` says so."""
    return view | {"trashed_at": None, "gone": True} if view["trashed_at"] == iso(GONE) else view


def label(thing: Thing) -> str:
    return f"{type(thing).__name__} {thing.id}"
