"""Numbers of rows that others name by number alone: none is given twice, not even after its row was deleted."""

from sqlalchemy import func
from sqlmodel import Session, select

from app.models import Adapter, Dataset, Job, Lane, Mark, Node

Numbered = Adapter | Dataset | Job | Lane | Node


def fresh(session: Session, table: type[Numbered]) -> int:
    """The id of a new row."""
    newest = session.exec(select(func.max(table.id))).one() or 0
    mark = session.get(Mark, _name(table))
    return max(newest, mark.value if mark else 0) + 1


def retire(session: Session, row: Numbered) -> None:
    """To be called before the row is deleted."""
    name = _name(type(row))
    mark = session.get(Mark, name) or Mark(name=name, value=0)
    mark.value = max(mark.value, row.id or 0)
    session.add(mark)


def _name(table: type[Numbered]) -> str:
    return f"newest_{table.__name__.lower()}"
