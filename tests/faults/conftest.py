"""One system for all cells of the matrix, an undisturbed job to compare with, and the table at the end."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.course import Course, weights
from tests.faults.report import table
from tests.faults.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    started = System(tmp_path_factory.mktemp("faults") / "data")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def reference(system: System) -> str:
    """The weights that nobody disturbed."""
    course = Course(system).begin()
    return weights(system, course.wait_for("succeeded"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints who died when."""
    if lines := table():
        terminalreporter.section("seconds until the job went on")
        terminalreporter.write("\n".join(lines) + "\n")
