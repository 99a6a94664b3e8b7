"""The inbox is killed at every moment at which something is written, and goes on as if nothing had happened."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlmodel import Session

from app.db import Database
from app.services import datasets
from tests.factories import Center, jsonl, rows
from tests.inbox_box import Box


class Killed(BaseException):
    pass


class Fuse:
    """Blows at the n-th moment before or after a commit, a link, an unlink or a rename of the inbox."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.thread = threading.get_ident()  # others write too, and are left alone

    def tick(self) -> None:
        if self.left is not None and threading.get_ident() == self.thread:
            self.left -= 1
            if self.left == 0:
                self.left = None
                raise Killed

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            self.tick()
            result = call(*args, **more)
            self.tick()
            return result

        return watched


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    fuse = Fuse()
    write = Database.write

    @contextmanager
    def watched(self: Database) -> Iterator[Session]:
        fuse.tick()
        with write(self) as session:
            yield session
        fuse.tick()

    monkeypatch.setattr(Database, "write", watched)
    for name in ("link", "unlink", "replace"):
        monkeypatch.setattr(os, name, fuse.around(getattr(os, name)))
    return fuse


class Course:
    """Turns of one inbox, of which one is killed at its n-th moment; the next begins with nothing in memory."""

    def __init__(self, center: Center, fuse: Fuse, moment: int) -> None:
        self.box, self.fuse, self.left = Box(center), fuse, moment
        self.box.folder.mkdir(exist_ok=True)

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.fuse.left = self.left or None
            try:
                self.box.inbox.step()
                self.left = self.fuse.left or 0
            except Killed:
                self.left = 0
                left_unchecked = self.box.checks
                self.box = self.box.restart()
                self.box.checks += left_unchecked
                self.take_up()
            finally:
                self.fuse.left = None
            self.check_all()

    def check_all(self) -> None:
        """Stands in for the child process of the analysis, which takes a second to start."""
        while self.box.checks:
            with self.box.center.database.write() as session:
                dataset = datasets.get(session, self.box.checks.pop())
                lines = self.box.center.app.state.storage.dataset(dataset.sha256).read_text().splitlines()
                wrong = [number for number, line in enumerate(lines, 1) if "assistant" not in line]
                finding = {"kind": "wrong_shape", "severity": "error", "message": "It is no conversation."}
                datasets.begin_check(session, dataset)
                datasets.add_findings(session, dataset, [finding | {"line": number} for number in wrong])
                totals = {"num_records": len(lines), "num_valid": len(lines) - len(wrong)}
                datasets.judge(session, dataset, totals | {"findings": {"wrong_shape": len(wrong)}})

    def take_up(self) -> None:
        """What the analysis does when the process starts again."""
        checking = self.box.center.get("/api/datasets").json()["items"]
        self.box.checks += [one["id"] for one in checking if one["state"] == "checking"]

    @property
    def was_killed(self) -> bool:
        return self.left == 0

    def view(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.box.items() if one["name"] == name]
        return found


def trained(course: Course, name: str) -> None:
    course.box.drop(name, rows(30, name))
    course.turn()
    course.box.claim().succeed()
    course.turn()


def every_moment(
    center: Center, fuse: Fuse, live: Callable[[Course, str], None], end: Callable[[Course, str], None]
) -> int:
    """Live through it with a kill at each moment in turn, each time with a file of its own; how many there were."""
    for moment in range(1, 100):
        course = Course(center, fuse, moment)
        live(course, f"{moment}.jsonl")
        end(course, f"{moment}.jsonl")
        course.box.inbox.stop()
        if not course.was_killed:
            return moment - 1
    raise AssertionError("it never ends")


def jobs_of(course: Course, dataset_id: int) -> list[int]:
    jobs = course.box.center.get("/api/jobs?limit=500").json()["items"]
    return [job["id"] for job in jobs if dataset_id in job["dataset_ids"]]


def test_a_file_is_trained_once_and_archived(center: Center, fuse: Fuse) -> None:
    def end(course: Course, name: str) -> None:
        view = course.view(name)
        assert (view["state"], view["place"]) == ("archived", f"archive/{name}")
        assert jobs_of(course, view["dataset_id"]) == [view["job_id"]]
        assert course.box.paper(f"archive/{name}.manifest.json")["adapter"] == view["adapter_id"]
        found = [one for one in course.box.files() if one.split("/")[-1].startswith(f"{name}")]
        assert found == [f"archive/{name}{end}" for end in ("", ".manifest.json", ".yaml")]

    assert every_moment(center, fuse, trained, end) > 15


def test_a_file_in_error_goes_to_quarantine_with_its_report(center: Center, fuse: Fuse) -> None:
    def live(course: Course, name: str) -> None:
        course.box.drop(name, jsonl({"messages": [name]}))
        course.turn(5)

    def end(course: Course, name: str) -> None:
        assert course.view(name)["place"] == f"quarantine/{name}"
        assert len(course.box.paper(f"quarantine/{name}.report.json")["findings"]) == 1
        assert (course.box.folder / name).exists() is False

    assert every_moment(center, fuse, live, end) > 10


def test_a_duplicate_is_archived_and_never_trained(center: Center, fuse: Fuse) -> None:
    Course(center, fuse, 0).box.drop("first.jsonl", rows(30))

    def live(course: Course, name: str) -> None:
        course.turn(2)
        course.box.drop(name, rows(30))
        course.turn(4)

    def end(course: Course, name: str) -> None:
        view = course.view(name)
        assert (view["state"], view["place"]) == ("duplicate", f"archive/{name}")
        assert jobs_of(course, view["dataset_id"]) == [1]

    assert every_moment(center, fuse, live, end) > 10


def test_a_replayed_file_comes_back_and_is_trained(center: Center, fuse: Fuse) -> None:
    def live(course: Course, name: str) -> None:
        course.box.drop(name, jsonl({"messages": [name]}))
        left, course.left = course.left, 0
        course.turn(4)
        (course.box.folder / "quarantine" / name).write_bytes(rows(9, name))
        assert center.post(f"/api/inbox/{course.view(name)['id']}/replay").status_code == 202
        course.left = left
        course.turn(5)

    def end(course: Course, name: str) -> None:
        view = course.view(name)
        assert (view["state"], view["place"]) == ("queued", name)
        assert jobs_of(course, view["dataset_id"]) == [view["job_id"]]
        assert not list((course.box.folder / "quarantine").glob(f"{name}*"))

    assert every_moment(center, fuse, live, end) > 10
