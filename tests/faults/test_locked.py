"""Another program holds the database for longer than a writer waits: nothing fails that was under way."""

import subprocess
import sys

import pytest

from tests.faults.course import STEPPING, Course, catch
from tests.faults.system import System, let_go

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Longer than the 15 s that SQLite waits for a lock.
LOCKED_S = 20
LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


def test_a_job_outlives_a_database_that_is_locked_for_long(system: System, reference: str) -> None:
    course = Course(system).begin()
    trainer = catch(course, STEPPING)
    command = [sys.executable, "-c", LOCK, str(system.data_dir / "control.sqlite3"), str(LOCKED_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as locker:
        assert locker.stdout is not None and locker.stdout.readline() == b"locked\n"
        let_go(trainer)
        assert course.job()["state"] == "running"
        answer = system.http.post(f"/api/jobs/{course.job_id}/save", timeout=90)
        assert answer.status_code == 200 or (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
    assert course.wait_for("succeeded")["attempt"] == 1
    course.check(["succeeded"], reference)
