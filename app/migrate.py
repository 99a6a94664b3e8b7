"""Migrations: the tables are brought up to date when the web process starts, after a backup."""

import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from app.backup import snapshot, stamp
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


def newest_revision(config: Config) -> str | None:
    return ScriptDirectory.from_config(config).get_current_head()


def upgrade(storage: Storage) -> None:
    """Bring the tables to the newest revision; one that exists and is older is backed up first."""
    config = alembic_config(storage.database)
    newest = newest_revision(config)
    if storage.database.exists():
        if current_revision(storage.database) == newest:
            return
        back_up(storage)
    else:
        os.close(os.open(storage.database, os.O_CREAT | os.O_WRONLY, 0o600))
    command.upgrade(config, "head")


def back_up(storage: Storage) -> Path:
    """A compact copy of the database as of now, mode 0600, that appears whole or not at all."""
    target = storage.backups / f"control-{stamp()}.sqlite3"
    part = target.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        snapshot(storage.database, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(storage.backups)
    for old in sorted(storage.backups.glob("control-*.sqlite3"))[:-KEPT_BACKUPS]:
        old.unlink()
    return target
