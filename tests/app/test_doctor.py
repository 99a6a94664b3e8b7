import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import doctor
from app.cli import cli
from app.config import Settings
from app.doctor import Check
from tests.conftest import free_port
from tests.factories import Center


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=free_port(), redis_url=None)


def state(check: Check) -> str:
    return check.state


def test_a_machine_that_is_well_has_no_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TORCH", "print('[\"2\", null, false]')")
    monkeypatch.setenv("TRAINCTL_PORT", str(settings.port))
    run = CliRunner().invoke(cli, ["doctor", "--json", "--data-dir", str(settings.data_dir)])
    found = {one["name"]: one["state"] for one in json.loads(run.output)}
    assert run.exit_code == 0 and "error" not in found.values()
    assert {"python", "fastapi", "disk", "data directory", "broker", "port", "gpu", "torch", "database"} <= set(found)


def test_an_error_is_told_in_a_line_with_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: [Check("disk", "error", "is full.", "Free some space.")])
    run = CliRunner().invoke(cli, ["doctor"])
    assert (run.exit_code, run.output) == (1, "error    disk: is full. Free some space.\n")


def test_a_low_disk_is_an_error(settings: Settings) -> None:
    settings.free_space_floor = type(settings.free_space_floor)(2**62)
    assert state(doctor.check_disk(settings)) == "error"


def test_a_data_directory_that_others_can_read_is_a_warning(settings: Settings) -> None:
    settings.data_dir.mkdir(mode=0o755)
    assert state(doctor.check_data_dir(settings.data_dir)) == "warning"
    settings.data_dir.chmod(0o700)
    assert state(doctor.check_data_dir(settings.data_dir)) == "ok"


def test_a_port_of_another_program_is_an_error(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)):
        assert state(doctor.check_port(settings)) == "error"
    assert state(doctor.check_port(settings)) == "ok"


def test_a_broker_that_does_not_answer_is_an_error_and_its_password_is_not_told(tmp_path: Path) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"
    (found,) = doctor.check_broker(Settings(data_dir=tmp_path, redis_url=url))
    assert found.state == "error" and "hush" not in found.message


@pytest.mark.parametrize(
    ("code", "wants_cuda", "wanted"),
    [
        ('print(\'["2.0", "12", true]\')', True, "ok"),
        ('print(\'["2.0", "12", false]\')', True, "error"),
        ("print('[\"2.0\", null, false]')", False, "ok"),
        ("raise ImportError('no torch')", False, "warning"),
        ("raise ImportError('no torch')", True, "error"),
    ],
)
def test_torch_is_asked_in_a_process_of_its_own(code: str, wants_cuda: bool, wanted: str) -> None:
    assert state(doctor.check_torch(wants_cuda, code)) == wanted


def test_a_model_folder_that_lacks_something_is_named(settings: Settings) -> None:
    (settings.data_dir / "models" / "half").mkdir(parents=True)
    (found,) = doctor.check_models(settings)
    assert found.state == "warning" and "half is not complete: no config.json" in found.message


def test_a_damaged_database_is_an_error(center: Center, tmp_path: Path) -> None:
    settings: Settings = center.app.state.settings
    assert [one.state for one in doctor.check_database(settings)] == ["ok"]
    broken = Settings(data_dir=tmp_path / "broken", redis_url=None)
    broken.data_dir.mkdir()
    (broken.data_dir / "control.sqlite3").write_bytes(b"no database at all" * 1000)
    (found,) = doctor.check_database(broken)
    assert found.state == "error" and "trainctl restore" in found.advice


def test_a_worker_of_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda _: "2.0")
    found = doctor._check_workers([{doctor.OURS: "1.0"}, {doctor.OURS: "2.0"}, {}])
    assert [one.state for one in found] == ["warning", "ok"]
