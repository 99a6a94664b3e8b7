import errno
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from tests.waiting import PATIENT_S, until
from worker.files import write_json
from worker.process import PID_NAME, TrainerProcess, end_strangers

SLEEPER = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"


def make_job_dir(folder: Path) -> Path:
    job_dir = folder / "jobs" / "1" / "attempt-1"
    job_dir.mkdir(parents=True)
    return job_dir


def start(job_dir: Path, lane: str = "cpu") -> TrainerProcess:
    process = TrainerProcess([sys.executable, "-c", SLEEPER], job_dir, {"PATH": "/usr/bin:/bin"}, lane)
    until(lambda: (job_dir / "trainer.log").read_text() == "up\n")
    return process


def family(job_dir: Path) -> list[psutil.Process]:
    """The trainer and all that it started."""
    [leader] = [one for one in psutil.Process().children() if str(job_dir) in one.cmdline()]
    return [leader, *leader.children(recursive=True)]


def test_a_killed_trainer_takes_its_children_along(tmp_path: Path) -> None:
    trainer = start(make_job_dir(tmp_path))
    members = family(tmp_path / "jobs" / "1" / "attempt-1")
    trainer.close()
    assert len(members) == 2
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in members))


def test_strangers_of_this_lane_are_ended_and_no_others(tmp_path: Path) -> None:
    trainer = start(make_job_dir(tmp_path), "gpu0")
    assert end_strangers(tmp_path / "jobs", "gpu1") == []
    assert len(end_strangers(tmp_path / "jobs", "gpu0")) == 1
    assert trainer.wait(PATIENT_S) == -signal.SIGKILL


def test_a_number_that_went_to_another_program_is_left_alone(tmp_path: Path) -> None:
    job_dir = make_job_dir(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as other:
        started = psutil.Process(other.pid).create_time()
        write_json(job_dir / PID_NAME, {"pid": other.pid, "started": started, "lane": "cpu"})
        assert end_strangers(tmp_path / "jobs", "cpu") == []
        assert other.poll() is None
        other.kill()
    assert not (job_dir / PID_NAME).exists()


def test_a_trainer_dies_with_the_worker_that_started_it(tmp_path: Path) -> None:
    job_dir = make_job_dir(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from worker.process import TrainerProcess\n"
        f"TrainerProcess(['sleep', '600', '--'], Path({str(job_dir)!r}), {{'PATH': '/usr/bin:/bin'}}, 'cpu')\n"
        "print('up', flush=True); time.sleep(600)"
    )
    code = code.replace("['sleep', '600', '--']", f"[sys.executable, '-c', {SLEEPER!r}]")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        until(lambda: (job_dir / "trainer.log").exists() and (job_dir / "trainer.log").read_text())
        [trainer] = psutil.Process(worker.pid).children()
        worker.kill()
    until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)


def test_a_trainer_that_cannot_be_written_down_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_dir = make_job_dir(tmp_path)
    monkeypatch.setattr("worker.process.write_json", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        TrainerProcess([sys.executable, "-c", SLEEPER], job_dir, {"PATH": "/usr/bin:/bin"}, "cpu")
    assert [one for one in psutil.Process().children() if str(job_dir) in one.cmdline()] == []
