"""The flags of `trainctl worker` as the launcher gets them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import launch
from app.cli import cli
from app.config import Settings


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that the launcher was called with; it starts nothing."""
    seen: list[Settings] = []

    def start(settings: Settings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(launch, "worker", start)
    return seen


def test_every_flag_of_a_worker_reaches_the_launcher(given: list[Settings], tmp_path: Path) -> None:
    flags = ["--server", "http://far:7860/", "--token-file", str(tmp_path / "t"), "--work-dir", str(tmp_path)]
    flags += ["--node-name", "lab-2", "--lanes", "0;1,2", "--label", "big", "--label", "fast"]
    assert CliRunner().invoke(cli, ["worker", *flags]).exit_code == 0
    (settings,) = given
    assert (settings.base_url, settings.work_path, settings.node_name) == ("http://far:7860", tmp_path, "lab-2")
    assert (settings.lanes, settings.label_list) == ("0;1,2", ["big", "fast"])


def test_the_earlier_names_of_its_flags_go_on_working(given: list[Settings], tmp_path: Path) -> None:
    flags = ["--worker-dir", str(tmp_path), "--name", "lab-2", "--gpus", "0,1"]
    assert CliRunner().invoke(cli, ["worker", *flags]).exit_code == 0
    assert (given[0].work_path, given[0].node_name, given[0].gpus) == (tmp_path, "lab-2", "0,1")


@pytest.mark.parametrize(
    ("flag", "value", "variable", "longest"),
    [
        ("--node-name", "my node!", "TRAINCTL_NODE_NAME", 200),
        ("--node-name", "", "TRAINCTL_NODE_NAME", 200),
        ("--node-name", "n" * 201, "TRAINCTL_NODE_NAME", 200),
        ("--label", "two words", "TRAINCTL_LABELS", 100),
    ],
)
def test_a_name_that_would_be_refused_for_ever_ends_the_worker(
    tmp_path: Path, flag: str, value: str, variable: str, longest: int
) -> None:
    done = CliRunner().invoke(cli, ["worker", "--data-dir", str(tmp_path / "d"), flag, value])
    said = (
        f'{flag} (or {variable}) "{value}" cannot be used: write up to {longest} letters, digits, ".", "_" and "-".\n'
    )
    assert (done.exit_code, done.output, list(tmp_path.iterdir())) == (2, said, [])


def test_the_cache_s_limit_is_given_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINCTL_CACHE_LIMIT", "20GB")
    assert Settings().cache_limit == 20 * 10**9
