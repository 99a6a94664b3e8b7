"""Whether the tables are those of today: a look at two places, so that a usual start loads nothing to migrate with."""

import re
import sqlite3
from contextlib import closing
from importlib import import_module
from pathlib import Path

from app.storage import Storage

VERSIONS = Path(__file__).resolve().parent.parent / "migrations" / "versions"
REVISION = re.compile(r'^(revision|down_revision)\b.*= "([^"]+)"', re.MULTILINE)


def bring_up_to_date(storage: Storage) -> None:
    """Make or migrate the tables where they are not those of today."""
    if revision_of(storage.database) != newest_revision():
        # Only here: Alembic takes longer to load than the rest of a start.
        import_module("app.migrate").upgrade(storage)


def newest_revision() -> str | None:
    """The one no other comes after; None where that is not one alone, which Alembic will have to explain."""
    found = [(key, name) for path in VERSIONS.glob("*.py") for key, name in REVISION.findall(path.read_text("utf-8"))]
    followed = {name for key, name in found if key == "down_revision"}
    newest = [name for key, name in found if key == "revision" and name not in followed]
    return newest[0] if len(newest) == 1 else None


def revision_of(database: Path) -> str | None:
    """The revision a database is at; None where there is none, or no database."""
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.DatabaseError:
            return None
    return found[0][0] if len(found) == 1 else None
