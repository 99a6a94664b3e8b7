import sqlite3
import stat
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlmodel import SQLModel

from app.db import Database
from app.migrate import back_up, upgrade
from app.storage import Storage


def prepared(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path)
    storage.prepare()
    upgrade(storage)
    return storage


def test_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    database = Database(prepared(tmp_path).database)
    with database.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    database.close()


def test_the_database_is_private(tmp_path: Path) -> None:
    storage = prepared(tmp_path)
    assert stat.S_IMODE(storage.database.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_an_older_database_is_backed_up_before_it_is_migrated(tmp_path: Path) -> None:
    storage = prepared(tmp_path)
    with sqlite3.connect(storage.database) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if not name.startswith("sqlite_"):
                connection.execute(f"DROP TABLE {name}")
        connection.execute("CREATE TABLE kept (x)")
    connection.close()
    upgrade(storage)
    (backup,) = storage.backups.glob("*.sqlite3")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with sqlite3.connect(backup) as copy:
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'kept'").fetchone() == (1,)
    copy.close()


def test_a_database_of_today_is_not_touched(tmp_path: Path) -> None:
    storage = prepared(tmp_path)
    upgrade(storage)
    assert list(storage.backups.iterdir()) == []


def test_only_the_newest_backups_are_kept(tmp_path: Path) -> None:
    storage = prepared(tmp_path)
    made = [back_up(storage) for _ in range(12)]
    assert sorted(storage.backups.iterdir()) == sorted(made)[-10:]
