"""constraints.txt: exact versions of everything, the same that these tests are run with."""

import re
import tomllib
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.rules.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
}


def test_every_line_pins_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len(lines) == len(PINS)


@pytest.mark.parametrize("extra", ["", "worker", "dev"])
def test_every_dependency_has_a_pin_that_its_range_allows(extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    named = [Requirement(one) for one in wanted]
    assert [one.name for one in named if not one.specifier.contains(PINS.get(canonicalize_name(one.name), "0"))] == []


def test_what_is_installed_is_what_is_pinned() -> None:
    """A package put in by hand, or a pin that was moved without `make setup`, shows here."""
    own = {"pip", "wheel", canonicalize_name(PROJECT["name"])}
    installed = {canonicalize_name(one.metadata["Name"]): Version(one.version).public for one in distributions()}
    wrong = {name: version for name, version in installed.items() if name not in own and PINS.get(name) != version}
    assert wrong == {}


def test_the_image_library_that_breaks_torch_is_nowhere() -> None:
    named = (ROOT / "pyproject.toml").read_text("utf-8") + (ROOT / "constraints.txt").read_text("utf-8")
    assert "torchvision" not in named
    assert "torchvision" not in {canonicalize_name(one.metadata["Name"]) for one in distributions()}
    assert PINS["torch"] == "2.13.0"
