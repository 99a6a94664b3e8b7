"""Each writer on a disk that is really full: a small file system in memory, which only root may mount."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.main import create_app
from tests.factories import Center, Claim, rows
from tests.waiting import until

SIZE_MB = 16


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def center(small_disk: Path) -> Iterator[Center]:
    """A control center that lives on the small disk, without a floor that would keep it from filling up."""
    settings = Settings(data_dir=small_disk / "data", lease_s=2, free_space_floor=0, redis_url=None)  # type: ignore[arg-type]
    with TestClient(create_app(settings), base_url="http://127.0.0.1:7860") as client:
        yield Center(client.app, client)  # type: ignore[arg-type]


@pytest.fixture
def filler(small_disk: Path) -> Path:
    return small_disk / "filler"


def fill(filler: Path, leave: int = 0) -> None:
    """Take all the room there is but `leave` bytes."""
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))


def claimed(center: Center) -> Claim:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    return claim


def refused_steps(claim: Claim) -> list[dict[str, Any]]:
    """Report steps until there is no room for them; those that were not taken."""
    for first in range(1, 10_000, 200):
        steps = [claim.step(number) for number in range(first, first + 200)]
        if claim.beat(*steps).status_code == 507:
            return steps
    raise AssertionError("the disk was never full")


def test_an_upload_that_fills_the_disk_leaves_nothing_behind(center: Center, filler: Path) -> None:
    fill(filler, leave=2 * 2**20)
    answer = center.client.put("/api/datasets/big", headers=center.headers, content=iter([b"x" * 2**20] * 8))  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert "are free in" in answer.json()["error"]["message"]
    assert list(center.app.state.storage.incoming.iterdir()) == []
    filler.unlink()
    assert center.upload(rows(3))["state"] == "ready"


def test_an_upload_to_a_disk_without_one_free_byte_is_refused(center: Center, filler: Path) -> None:
    fill(filler)
    answer = center.client.put("/api/datasets/x", headers=center.headers, content=rows(3))
    assert answer.status_code == 507
    assert "nearly full" in center.get("/datasets").text
    filler.unlink()
    assert center.upload(rows(3))["state"] == "ready"


def test_a_job_survives_a_disk_that_is_full_for_longer_than_its_lease(center: Center, filler: Path) -> None:
    claim = claimed(center)
    fill(filler)
    steps = refused_steps(claim)
    time.sleep(2.5)
    filler.unlink()
    until(lambda: claim.beat(*steps).status_code == 200)
    job = center.job(claim.job_id)
    assert (job["state"], job["attempt"], job["step"]) == ("running", 1, claim.seq - 2)
    metrics = center.get(f"/api/jobs/{claim.job_id}/metrics?max_points=100000").json()
    assert metrics["step"] == list(range(1, claim.seq - 1))


def test_a_checkpoint_that_finds_no_room_is_taken_later(center: Center, filler: Path) -> None:
    claim = claimed(center)
    fill(filler, leave=2**20)
    content = b"w" * 3 * 2**20
    assert claim.put("checkpoints/s/a", content).status_code == 507
    assert list(center.app.state.storage.incoming.iterdir()) == []
    filler.unlink()
    assert claim.put("checkpoints/s/a", content).status_code == 200


def test_a_check_that_finds_no_room_for_its_findings_goes_on_by_itself(center: Center, filler: Path) -> None:
    fill(filler, leave=3 * 2**20)
    dataset = center.upload(b"".join(b'{"messages": %d}\n' % number for number in range(20_000)))
    time.sleep(3)
    assert center.get(f"/api/datasets/{dataset['id']}").json()["state"] == "checking"
    filler.unlink()
    place = f"/api/datasets/{dataset['id']}"
    until(lambda: center.get(place).json()["state"] == "refused")
    assert center.get(place).json()["findings"] == {"wrong_shape": 20_000}
    assert len(center.get(f"{place}/findings?limit=500&after=19900").json()["items"]) == 100


def test_nothing_is_damaged_by_a_full_disk(center: Center, filler: Path) -> None:
    claim = claimed(center)
    fill(filler)
    assert refused_steps(claim)
    assert center.post("/api/jobs", json={"dataset_id": 1, "model": "tiny-qwen3-vl"}).status_code in (201, 507)
    with center.database.read() as session:
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    filler.unlink()
    until(lambda: center.client.get("/readyz").json() == {"status": "ready"})
