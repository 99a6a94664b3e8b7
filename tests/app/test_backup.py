import errno
import gzip
import json
import os
import shutil
import sqlite3
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.backup import DAILY, DailyBackups, back_up
from app.cli import cli
from app.config import Settings
from app.errors import DiskFull
from app.main import create_app
from app.migrate import upgrade
from app.processes import WEB_LOCK, take_lock
from app.restore import restore
from app.services import retention
from app.storage import Storage
from tests.app.test_trash import finished
from tests.factories import Center, rows
from tests.waiting import until

# A database has rows of these after `finished`.
ARTEFACTS = ["adapter"] * 4 + ["checkpoint", "dataset"]


@pytest.fixture
def storage(center: Center) -> Storage:
    """A data directory with a dataset, a finished job, its checkpoint and its adapter."""
    finished(center, 1)
    found: Storage = center.app.state.storage
    return found


def test_a_backup_has_the_database_and_names_every_artefact(storage: Storage) -> None:
    made = back_up(storage)
    named = json.loads((made / "manifest.json").read_text())["artefacts"]
    assert sorted(one["kind"] for one in named) == ARTEFACTS
    assert all((storage.root / one["path"]).stat().st_size == one["size"] for one in named)
    assert made.parent == storage.backups and not (made / "files").exists()
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (made, *made.iterdir())}
    assert modes == {made.name: 0o700, "control.sqlite3": 0o600, "manifest.json": 0o600}


@pytest.mark.parametrize("to", ["elsewhere", "all.tar"])
def test_a_full_backup_restores_everything_into_an_empty_directory(storage: Storage, tmp_path: Path, to: str) -> None:
    made = back_up(storage, tmp_path / to, full=True)
    shutil.rmtree(storage.root / "datasets")
    report = restore(made, Storage(tmp_path / "new"))
    assert (report.present, report.missing, report.altered) == (6, [], [])
    settings = Settings(data_dir=tmp_path / "new", redis_url=None)
    again = create_app(settings).state.storage
    assert next(again.root.joinpath("datasets").rglob("*.jsonl")).read_bytes() == rows(30)
    assert stat.S_IMODE(again.database.stat().st_mode) == 0o600


def test_restoring_names_what_is_missing_and_what_was_altered(storage: Storage, tmp_path: Path) -> None:
    made = back_up(storage, tmp_path / "backup")
    target = tmp_path / "new"
    shutil.copytree(storage.jobs, target / "jobs")
    (target / "jobs/1/attempt-1/adapter/README.md").write_text("other")
    report = restore(made, Storage(target), force=True)
    assert report.altered == ["jobs/1/attempt-1/adapter/README.md"]
    assert [one.split("/")[0] for one in report.missing] == ["datasets"] and report.present == 4


def test_a_restore_that_breaks_off_leaves_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = back_up(storage, tmp_path / "backup", full=True), Storage(tmp_path / "new")

    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.restore.shutil.copyfile", fail)
    with pytest.raises(OSError, match="No space left"):
        restore(made, target)
    assert not [one for one in target.root.iterdir() if not one.name.startswith(".")]
    monkeypatch.undo()
    monkeypatch.setattr("app.restore.shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DiskFull, match="has 10 B free and the backup takes"):
        restore(made, target)
    monkeypatch.undo()
    assert restore(made, target).present == 6


def test_a_dataset_whose_file_was_not_in_the_backup_waits_for_it_and_its_jobs_with_it(
    center: Center, storage: Storage, tmp_path: Path
) -> None:
    packed = gzip.compress(rows(30, "packed"), mtime=0)
    waiting = center.make_job(center.upload(packed, "packed.jsonl.gz")["id"])["id"]
    made = back_up(storage, tmp_path / "backup")
    restore(made, Storage(tmp_path / "new"))
    app = create_app(Settings(data_dir=tmp_path / "new", redis_url=None))
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        again = Center(app, client)
        lost = again.get("/api/datasets/2").json()
        assert (lost["state"], lost["error"][:20]) == ("receiving", "Its file is not here")
        assert "Its file is missing" in again.get("/datasets/2").text
        assert again.worker().claim() is None
        assert again.job(waiting)["waiting_for"]["message"] == "waits for the file of dataset 2, which is not here"
        sent = again.upload(packed, "packed.jsonl.gz")
        assert (sent["id"], again.wait_for_dataset(2)["state"]) == (2, "ready")
        assert again.worker().must_claim().job_id == waiting
    app.state.storage.unpacked(sent["sha256"]).unlink()
    with TestClient(
        create_app(Settings(data_dir=tmp_path / "new", redis_url=None)), base_url="http://127.0.0.1:7860"
    ) as client:
        assert client.get("/healthz").status_code == 200
        for _ in range(300):
            if app.state.storage.unpacked(sent["sha256"]).exists():
                break
            time.sleep(0.1)
        assert app.state.storage.unpacked(sent["sha256"]).exists()


def test_the_database_alone_can_be_restored_too(storage: Storage, tmp_path: Path) -> None:
    made = back_up(storage, tmp_path / "backup")
    report = restore(made / "control.sqlite3", Storage(tmp_path / "new"))
    assert len(report.missing) == 6


def test_a_directory_that_is_not_empty_needs_force_and_its_database_is_put_aside(
    storage: Storage, tmp_path: Path
) -> None:
    made = back_up(storage, tmp_path / "backup", full=True)
    other = Storage(tmp_path / "other")
    other.prepare()
    upgrade(other)
    run = CliRunner().invoke(cli, ["restore", str(made), "--data-dir", str(other.root)])
    assert run.exit_code == 1 and "is not empty" in str(run.exception)
    forced = CliRunner().invoke(cli, ["restore", str(made), "--data-dir", str(other.root), "--force"])
    assert forced.exit_code == 0 and "6 artefacts are whole" in forced.output
    (aside,) = other.backups.glob("replaced-*")
    assert (aside / "control.sqlite3").is_file()


def test_a_directory_in_use_is_refused(storage: Storage, tmp_path: Path) -> None:
    made = back_up(storage, tmp_path / "backup")
    (tmp_path / "new").mkdir()
    assert take_lock(tmp_path / "new" / WEB_LOCK) is not None
    run = CliRunner().invoke(cli, ["restore", str(made), "--data-dir", str(tmp_path / "new"), "--force"])
    assert run.exit_code == 1 and "is in use" in str(run.exception)


def test_an_altered_backup_is_refused(storage: Storage, tmp_path: Path) -> None:
    made = back_up(storage, tmp_path / "backup")
    with sqlite3.connect(made / "control.sqlite3") as connection:
        connection.execute("UPDATE job SET name = 'other'")
    connection.close()
    run = CliRunner().invoke(cli, ["restore", str(made), "--data-dir", str(tmp_path / "new")])
    assert run.exit_code == 1 and "was altered" in str(run.exception)


def test_a_backup_during_heavy_writing_is_whole_and_holds_up_no_writer(center: Center, storage: Storage) -> None:
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            with center.database.write() as session:
                session.connection().exec_driver_sql("UPDATE mark SET value = value + 1")
            written.append(1)

    with center.database.write() as session:
        session.connection().exec_driver_sql("INSERT INTO mark VALUES ('beats', 0)")
    thread = threading.Thread(target=write)
    thread.start()
    made = [back_up(storage) for _ in range(3)]
    stop.set()
    thread.join()
    seen = [value_of(one / "control.sqlite3") for one in made]
    assert seen == sorted(seen) and seen[-1] <= len(written) and len(written) > 3


def value_of(database: Path) -> int:
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (value,) = connection.execute("SELECT value FROM mark WHERE name = 'beats'").fetchone()
    connection.close()
    return int(value)


def test_the_command_says_where_the_backup_is(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    run = CliRunner().invoke(cli, ["backup", "--data-dir", str(storage.root), "--to", str(tmp_path / "there")])
    assert run.exit_code == 0 and (Path(run.output.strip()) / "manifest.json").is_file()
    none = CliRunner().invoke(cli, ["backup", "--data-dir", str(tmp_path / "nowhere")])
    assert none.exit_code == 1 and "There is no control center" in str(none.exception)


def test_daily_backups_are_kept_as_many_as_the_retention_says(center: Center, storage: Storage) -> None:
    daily = DailyBackups(center.database, storage, center.app.state.disk)
    with center.database.write() as session:
        retention.change(session, {"daily_backups": 2})
    made = [daily.make() for _ in range(3)]
    assert sorted(storage.backups.glob(f"{DAILY}*")) == made[1:]
    with center.database.write() as session:
        retention.change(session, {"daily_backups": 0})
    assert daily.make() is None and list(storage.backups.glob(f"{DAILY}*")) == []


def test_a_daily_backup_is_due_when_the_newest_is_a_day_old(center: Center, storage: Storage) -> None:
    daily = DailyBackups(center.database, storage, center.app.state.disk)
    daily.tend()
    assert list(storage.backups.glob(f"{DAILY}*")) == []
    os.utime(storage.root / "token", (0, 0))
    DailyBackups(center.database, storage, center.app.state.disk).tend()
    until(lambda: list(storage.backups.glob(f"{DAILY}*")))
    assert len(list(storage.backups.glob(f"{DAILY}*"))) == 1


def test_no_daily_backup_takes_the_last_room(center: Center, storage: Storage) -> None:
    disk = center.app.state.disk
    disk.floor = 2**62
    assert DailyBackups(center.database, storage, disk).make() is None


def test_what_a_killed_backup_left_goes_at_a_later_start(storage: Storage) -> None:
    old, young = storage.backups / ".daily-1.part", storage.backups / ".backup-2.part"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "control.sqlite3").write_bytes(b"x")
    os.utime(old, (0, 0))
    storage.prepare()
    assert (old.exists(), young.exists()) == (False, True)
