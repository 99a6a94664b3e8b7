import errno
from pathlib import Path

import pytest

from app.config import Settings
from app.errors import DiskFull
from app.routes import pages_form
from app.space import Disk, human, is_full
from tests.factories import Center, jsonl, record, rows


@pytest.fixture
def disk(center: Center, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of the center, as if nobody else wrote on it: a test sets its floor beyond or below what is free."""
    monkeypatch.setattr(Disk, "free", 10**12)
    found: Disk = center.app.state.disk
    found.floor = 0
    return found


def fill(disk: Disk, left: int = -1) -> None:
    """As if only so many bytes were left above the floor."""
    disk.floor = disk.free - left


def test_the_floor_is_read_in_bytes_and_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINCTL_FREE_SPACE_FLOOR", "1.5GB")
    assert Settings().free_space_floor == 1_500_000_000
    monkeypatch.setenv("TRAINCTL_FREE_SPACE_FLOOR", "700")
    assert Settings().free_space_floor == 700


def test_an_upload_below_the_floor_is_refused_with_the_numbers_and_what_to_do(center: Center, disk: Disk) -> None:
    fill(disk, left=1000)
    answer = center.client.put("/api/datasets/big", headers=center.headers, content=jsonl(record("a", "b" * 10**8)))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (507, "disk_full")
    assert "100 MB are needed" in error["message"] and "empty the trash" in error["message"]
    assert list(center.app.state.storage.incoming.iterdir()) == []


def test_an_upload_that_does_not_say_its_size_stops_at_the_floor(center: Center, disk: Disk) -> None:
    def body() -> object:
        yield rows(3)
        fill(disk)
        yield from (b"x" * 2**20 for _ in range(3))

    answer = center.client.put("/api/datasets/endless", headers=center.headers, content=body())  # type: ignore[arg-type]
    assert answer.status_code == 507
    assert list(center.app.state.storage.incoming.iterdir()) == []


def test_a_job_that_would_go_below_the_floor_is_refused_with_the_numbers(center: Center, disk: Disk) -> None:
    dataset = center.upload(rows(30))
    fill(disk, left=10_000)
    answer = center.post("/api/jobs", json={"dataset_id": dataset["id"], "model": "tiny-qwen3-vl"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert "are needed" in answer.json()["error"]["message"]
    assert center.get("/api/jobs").json()["items"] == []


def test_a_queued_job_waits_for_the_disk_and_goes_on_when_there_is_room(center: Center, disk: Disk) -> None:
    center.worker("other")
    job = center.make_job()
    fill(disk)
    waiting = center.job(job["id"])["waiting_for"]
    assert waiting["kind"] == "disk" and "waits for room on the disk" in waiting["message"]
    assert "Waits for room on the disk: needs" in center.get(f"/jobs/{job['id']}").text
    worker = center.worker()
    assert worker.claim() is None
    disk.floor = 0
    assert center.job(job["id"])["waiting_for"] is None
    assert worker.must_claim().job_id == job["id"]


def test_a_small_job_passes_one_that_waits_for_room(center: Center, disk: Disk) -> None:
    center.worker("other")
    large = center.make_job(config={"lora_r": 512})
    small = center.make_job(large["dataset_ids"][0], config={"lora_r": 1})
    fill(disk, left=large["estimate"]["disk_here"] // 2)
    assert center.job(large["id"])["waiting_for"]["kind"] == "disk"
    assert center.worker().must_claim().job_id == small["id"]


def test_a_held_job_keeps_the_room_for_what_it_has_still_to_write(center: Center, disk: Disk) -> None:
    first = center.make_job()
    second = center.make_job(first["dataset_ids"][0])
    center.worker().must_claim()
    fill(disk, left=first["estimate"]["disk_here"] * 3 // 2)
    assert center.job(second["id"])["waiting_for"]["kind"] == "disk"


def test_the_form_shows_why_there_is_no_room(center: Center, disk: Disk) -> None:
    dataset = center.upload(rows(30))
    fill(disk)
    form = pages_form.blank("tiny-qwen3-vl", dataset["id"])
    answer = center.client.post("/jobs", headers=center.headers, data=form)
    assert answer.status_code == 507 and "The disk has no room for" in answer.text


def test_every_page_and_readyz_tell_of_a_low_disk(center: Center, disk: Disk) -> None:
    assert "nearly full" not in center.get("/datasets").text
    assert center.client.get("/readyz").json() == {"status": "ready"}
    fill(disk)
    assert all("The disk is nearly full" in center.get(path).text for path in ("/datasets", "/trash", "/_banner"))
    assert center.client.get("/readyz").json() == {"status": "ready", "disk": "low"}


def test_a_worker_on_the_same_disk_doubles_what_a_job_needs(center: Center, settings: Settings, disk: Disk) -> None:
    alone = center.make_job()
    settings.work_path.mkdir()
    beside = center.make_job(alone["dataset_ids"][0])
    dataset = center.get(f"/api/datasets/{alone['dataset_ids'][0]}").json()
    assert beside["estimate"]["disk_here"] == 2 * alone["estimate"]["disk_here"] + dataset["size"]


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (174_000_000, "174 MB"), (2 * 10**9, "2.0 GB")]
)
def test_sizes_are_told_as_people_read_them(count: int, words: str) -> None:
    assert human(count) == words


def test_only_a_want_of_space_counts_as_full(tmp_path: Path) -> None:
    assert is_full(OSError(errno.ENOSPC, "")) and is_full(OSError(errno.EDQUOT, "")) and is_full(DiskFull())
    assert not is_full(OSError(errno.EACCES, "")) and not is_full(ValueError())
