"""Migrations: the tables are brought up to date when the web process starts, after a backup."""

import os
import sqlite3
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from app.storage import Storage, sync_folder

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
KEPT_BACKUPS = 10


def alembic_config(database: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{database}".replace("%", "%%"))
    return config


def current_revision(database: Path) -> str | None:
    engine = create_engine(f"sqlite:///{database}")
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def upgrade(storage: Storage) -> None:
    """Bring the tables to the newest revision; one that exists and is older is backed up first."""
    config = alembic_config(storage.database)
    newest = ScriptDirectory.from_config(config).get_current_head()
    if storage.database.exists():
        if current_revision(storage.database) == newest:
            return
        back_up(storage)
    else:
        os.close(os.open(storage.database, os.O_CREAT | os.O_WRONLY, 0o600))
    command.upgrade(config, "head")


def back_up(storage: Storage) -> Path:
    """A compact copy of the database as of now, mode 0600, that appears whole or not at all."""
    target = (
        storage.backups / f"control-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09}.sqlite3"
    )
    part = target.with_suffix(".part")
    part.unlink(missing_ok=True)
    connection = sqlite3.connect(storage.database, isolation_level=None, timeout=30)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
    finally:
        connection.close()
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    sync_folder(storage.backups)
    for old in sorted(storage.backups.glob("control-*.sqlite3"))[:-KEPT_BACKUPS]:
        old.unlink()
    return target
