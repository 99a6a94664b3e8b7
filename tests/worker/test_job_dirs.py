import os
import shutil
import time
from pathlib import Path

import pytest

from worker import job_dirs
from worker.job_dirs import close_job, open_spools, prune


def make(jobs_dir: Path, job_id: int, attempt: int, open_: bool = False, age_s: float = 0) -> Path:
    job_dir = jobs_dir / str(job_id) / f"attempt-{attempt}"
    (job_dir / "checkpoints" / "step-00000001").mkdir(parents=True)
    (job_dir / "events.jsonl").write_text("")
    if open_:
        (job_dir / "claim.json").write_text(f'{{"attempt": {attempt}, "claim_token": "t{attempt}"}}')
    then = time.time() - age_s
    for path in [*job_dir.iterdir(), job_dir]:
        os.utime(path, (then, then))
    return job_dir


def test_only_earlier_attempts_that_never_ended_have_a_spool(tmp_path: Path) -> None:
    make(tmp_path, 1, 1, open_=True)
    make(tmp_path, 1, 2)
    make(tmp_path, 1, 10, open_=True)
    make(tmp_path, 2, 1, open_=True)
    assert [(attempt, token) for attempt, token, _ in open_spools(tmp_path, 1, before=10)] == [(1, "t1")]


def test_an_ended_job_keeps_its_small_files(tmp_path: Path) -> None:
    job_dir = make(tmp_path, 1, 1, open_=True)
    close_job(tmp_path, 1, 1)
    assert [path.name for path in job_dir.iterdir()] == ["events.jsonl"]


def test_a_later_attempt_is_not_touched(tmp_path: Path) -> None:
    later = make(tmp_path, 1, 2, open_=True)
    close_job(tmp_path, 1, 1)
    assert (later / "checkpoints").exists() and (later / "claim.json").exists()


def test_the_newest_ended_attempts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_dirs, "KEPT_ATTEMPTS", 2)
    for job_id in (1, 2, 3):
        make(tmp_path, job_id, 1, age_s=100 - job_id)
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_what_nobody_came_back_to_for_a_week_goes(tmp_path: Path) -> None:
    make(tmp_path, 1, 1, open_=True, age_s=8 * 24 * 3600)
    make(tmp_path, 2, 1, open_=True, age_s=6 * 24 * 3600)
    prune(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_a_job_of_many_days_is_not_forgotten(tmp_path: Path) -> None:
    job_dir = make(tmp_path, 1, 1, open_=True, age_s=8 * 24 * 3600)
    (job_dir / "events.jsonl").write_text("still running")
    prune(tmp_path)
    assert job_dir.exists()


def test_lanes_that_clear_away_at_the_same_time_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in range(20):
        make(tmp_path, job_id, 1, age_s=30 * 24 * 3600)
    seen = iter(sorted(tmp_path.glob("*/attempt-*")))
    real = job_dirs._changed_at

    def taken_meanwhile(path: Path) -> float:
        # Another lane is one directory ahead.
        if (other := next(seen, None)) is not None:
            shutil.rmtree(other.parent, ignore_errors=True)
        return real(path)

    monkeypatch.setattr(job_dirs, "_changed_at", taken_meanwhile)
    prune(tmp_path)
    monkeypatch.undo()
    prune(tmp_path)
    assert list(tmp_path.iterdir()) == []
