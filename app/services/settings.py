"""What people set for the whole control center while it works, each under a name."""

from datetime import datetime
from typing import Any

from sqlmodel import Session

from app.columns import utc_now
from app.models import Setting


def read(session: Session, name: str) -> tuple[Any, datetime | None]:
    """(value, when it was set); (None, None) where nobody set it."""
    row = session.get(Setting, name)
    return (row.value, row.changed_at) if row else (None, None)


def put(session: Session, name: str, value: Any) -> None:
    """Set it; `value` is JSON."""
    session.merge(Setting(name=name, value=value, changed_at=utc_now()))
