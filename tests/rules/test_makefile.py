"""The Makefile, run on a stand-in for Python that writes down what it is asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rules.tree import ROOT

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

# Makes a folder with itself as its Python, installs nothing, and reports each call in a line.
STAND_IN = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  "-V") echo "Python 3.12.0" ;;
  "-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *install*) exit "${{FAIL_INSTALL:-0}}" ;;
esac
"""


class Checkout:
    """A folder with nothing but the files that `make setup` reads."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls.log"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy2(ROOT / name, folder)
        self.python = folder / "python"
        self.python.write_text(STAND_IN.format(log=self.log))
        self.python.chmod(0o755)

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs make; `PYTHON=` among the words overrides the stand-in."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", f"PYTHON={self.python}", *words],
            cwd=self.folder,
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def installs(self) -> list[str]:
        """The pip calls since the last time this was asked."""
        calls = [line for line in self.log.read_text().splitlines() if "pip install" in line]
        self.log.write_text("")
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_setup_installs_torch_first_and_all_of_it_by_the_constraints(checkout: Checkout) -> None:
    done = checkout.make("setup")
    first, second = checkout.installs()
    assert done.returncode == 0, done.stderr
    assert first.endswith("-c constraints.txt torch setuptools")
    assert second.endswith("-c constraints.txt --no-build-isolation -e .[worker,dev]")


def test_a_second_setup_does_nothing(checkout: Checkout) -> None:
    checkout.make("setup")
    checkout.installs()
    assert checkout.make("setup").returncode == 0
    assert checkout.installs() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_dependency_is_installed(checkout: Checkout, name: str) -> None:
    checkout.make("setup")
    checkout.installs()
    later = (checkout.folder / ".venv" / ".ready").stat().st_mtime + 1
    os.utime(checkout.folder / name, (later, later))
    checkout.make("setup")
    assert len(checkout.installs()) == 2


def test_a_set_up_that_broke_off_is_taken_up_again(checkout: Checkout) -> None:
    assert checkout.make("setup", FAIL_INSTALL="1").returncode != 0
    checkout.installs()
    assert checkout.make("setup").returncode == 0
    assert len(checkout.installs()) == 2


def test_a_folder_that_was_moved_is_set_up_anew(checkout: Checkout) -> None:
    checkout.make("setup")
    checkout.installs()
    (checkout.folder / ".venv" / "old-place").touch()
    (checkout.folder / ".venv" / ".ready").write_text("/elsewhere/checkout\n")
    checkout.make("setup")
    assert not (checkout.folder / ".venv" / "old-place").exists()
    assert len(checkout.installs()) == 2


def test_a_machine_without_a_new_python_is_told_so(checkout: Checkout) -> None:
    done = checkout.make("setup", "PYTHON=")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_a_browser_that_cannot_be_installed_is_named_and_nothing_fails(checkout: Checkout) -> None:
    done = checkout.make("parts", "MISSING=echo chromium", "MAY_INSTALL=false")
    assert done.returncode == 0
    assert done.stdout.startswith("Not on this machine, so the tests that need it are skipped: chromium")
    assert "apt-get install chromium" in done.stdout


def test_a_missing_browser_is_installed_where_that_is_allowed(checkout: Checkout) -> None:
    asked = ["APT=echo would say: apt-get", "MAY_INSTALL=true", "MISSING=test -e installed || echo chromium"]
    done = checkout.make("parts", *asked)
    assert done.stdout.splitlines()[:2] == ["Installing for the tests: chromium ...", "would say: apt-get update"]
    (checkout.folder / "installed").touch()
    assert checkout.make("parts", *asked).stdout == ""


def test_the_ways_to_start_are_there() -> None:
    assert {"setup", "demo", "up", "test", "test-all", "check", "lint"} <= TARGETS


def test_ci_runs_the_tests_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().splitlines()[-1] == "make test"
