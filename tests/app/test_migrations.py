import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlmodel import SQLModel

from app.db import Database
from app.migrate import alembic_config, back_up, upgrade
from app.models import Dataset, Job, Metric
from app.services import rollups
from app.storage import Storage
from app.tables import newest_revision, revision_of
from tests.conftest import REPOSITORY


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


def test_the_newest_revision_is_known_without_alembic(tmp_path: Path) -> None:
    storage = prepared(tmp_path)
    script = ScriptDirectory.from_config(alembic_config(storage.database))
    assert newest_revision() == script.get_current_head() == revision_of(storage.database)


def test_a_file_that_is_no_database_of_ours_has_no_revision(tmp_path: Path) -> None:
    assert revision_of(tmp_path / "absent") is None
    (tmp_path / "text").write_text("no database" * 100)
    assert revision_of(tmp_path / "text") is None


def test_a_usual_start_loads_nothing_to_migrate_with(tmp_path: Path) -> None:
    prepared(tmp_path)
    code = "import sys; from app.config import Settings; from app.main import create_app; create_app(Settings()); "
    code += "sys.exit(bool({'alembic', 'celery', 'redis', 'torch'} & set(sys.modules)))"
    environment = {**os.environ, "TRAINCTL_DATA_DIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, check=False).returncode == 0


def test_jobs_from_before_the_rollups_get_theirs(tmp_path: Path) -> None:
    database = Database(prepared(tmp_path).database)
    with database.write() as session:
        session.add(Dataset(name="a", sha256="0", size=1))
        session.flush()
        session.add(Job(id=1, name="a", model="m", dataset_id=1))
        session.flush()
        losses = [None if step in (40, 41) or step < 32 else float(step * 37 % 11) for step in range(700)]
        named = [Metric(job_id=1, step=n, attempt=1, event_id=1, at=0, loss=loss) for n, loss in enumerate(losses)]
        session.add_all(named)
        session.flush()
        rollups.build(session, 1, 0, 699)
        built = sorted(session.connection().execute(text("SELECT * FROM rollup")).all(), key=str)
        assert built
        for name in ("rollup", "inboxfile"):
            session.connection().execute(text(f"DROP TABLE {name}"))
        later = "dataset.reading dataset.unpacked dataset.made dataset.compared_with finding.other_dataset job.datasets"
        for table, column in (one.split(".") for one in later.split()):  # what later migrations add
            session.connection().execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        session.connection().execute(text("UPDATE alembic_version SET version_num = '0004'"))
    database.close()
    again = Database(prepared(tmp_path).database)
    with again.read() as session:
        assert sorted(session.connection().execute(text("SELECT * FROM rollup")).all(), key=str) == built
    again.close()
