"""A disk that is full while a job trains, on the side of the control center and on the worker's."""

import errno
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.factories import rows
from tests.faults.course import STEPPING, Course, catch
from tests.faults.system import LEASE_S, System, let_go, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Disk:
    """A small file system in memory that can be filled to its last byte."""

    place: Path

    def fill(self) -> None:
        block = b"x" * 65536
        with (self.place / "ballast").open("wb", buffering=0) as stream:
            while block:
                try:
                    stream.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]

    def free(self) -> None:
        (self.place / "ballast").unlink()


def mounted(place: Path) -> Iterator[Disk]:
    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no small disk can be mounted here: there is no `mount`")
    command = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=0700", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def center_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    yield from mounted(tmp_path_factory.mktemp("center") / "disk")


@pytest.fixture(scope="module")
def worker_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    yield from mounted(tmp_path_factory.mktemp("worker") / "disk")


@pytest.fixture(scope="module")
def small(center_disk: Disk, worker_disk: Disk) -> Iterator[System]:
    """A control center on one small disk with its worker's folder on another."""
    # No floor of free space: here the disk is to be full to its last byte.
    environment = {"TRAINCTL_WORKER_DIR": str(worker_disk.place), "TRAINCTL_FREE_SPACE_FLOOR": "0"}
    started = System(center_disk.place / "data", **environment)
    yield started
    started.stop()


def test_a_full_disk_of_the_center_holds_a_job_up_and_harms_nothing(
    small: System, center_disk: Disk, reference: str
) -> None:
    course = Course(small).begin()
    trainer = catch(course, STEPPING)
    center_disk.fill()
    let_go(trainer)
    upload = small.http.put("/api/datasets/more.jsonl", content=rows(2000, "more"))
    assert (upload.status_code, upload.json()["error"]["code"]) == (507, "disk_full")
    until(lambda: course.has("outcome.json"), "the end of a trainer that nobody hears")
    until(lambda: small.http.post(f"/api/jobs/{course.job_id}/save").status_code == 507, "507", 2 * LEASE_S)
    assert course.job()["state"] == "running"
    center_disk.free()
    assert course.wait_for("succeeded")["attempt"] == 1
    course.check(["succeeded"], reference)


def test_a_full_disk_of_the_worker_fails_the_job_by_name_and_resume_goes_on(
    small: System, worker_disk: Disk, reference: str
) -> None:
    course = Course(small).begin()
    trainer = catch(course, STEPPING)
    until(course.checkpoints, "a checkpoint at the control center")
    worker_disk.fill()
    let_go(trainer)
    failed = course.wait_for("failed")
    assert failed["error"]["code"] == "disk_full" and "full" in failed["error"]["message"]
    worker_disk.free()
    small.post(f"/api/jobs/{course.job_id}/resume")
    course.wait_for("succeeded")
    course.check(["failed", "succeeded"], reference)


def test_a_job_that_finds_the_worker_full_fails_by_name_and_retry_succeeds(
    small: System, worker_disk: Disk, reference: str
) -> None:
    worker_disk.fill()
    course = Course(small).begin()
    assert course.wait_for("failed")["error"]["code"] == "disk_full"
    worker_disk.free()
    small.post(f"/api/jobs/{course.job_id}/retry")
    course.wait_for("succeeded")
    course.check(["failed", "succeeded"], reference)
