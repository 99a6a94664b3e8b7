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


def test_the_cache_s_limit_is_given_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINCTL_CACHE_LIMIT", "20GB")
    assert Settings().cache_limit == 20 * 10**9
