"""Alembic's entry: migrates the SQLite file in one transaction, with foreign keys off while tables are rebuilt."""

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, pool, text

from app.models import SQLModel

TARGET = SQLModel.metadata


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None
    engine = create_engine(url, poolclass=pool.NullPool)

    @event.listens_for(engine, "connect")
    def _plain(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else the driver commits behind our back and leaves half a migration
        # A table that is rebuilt must not cascade its rows' children away.
        connection.execute("PRAGMA foreign_keys=OFF")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        context.configure(
            connection=connection,
            target_metadata=TARGET,
            render_as_batch=True,
            transactional_ddl=True,
            compare_type=True,
        )
        context.run_migrations()
        broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
        if broken:
            raise RuntimeError(
                f"The migration would leave {len(broken)} rows without their parents; nothing was changed."
            )
    engine.dispose()


run()
