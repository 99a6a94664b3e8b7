"""Flag files and SIGTERM."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.trainer.commands import Commands
from worker.trainer.faults import Interrupted


@pytest.fixture
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def outcome_of(commands: Commands) -> str:
    with pytest.raises(Interrupted) as end:
        commands.poll()
    return end.value.ask.outcome


def test_nothing_asked_goes_on(tmp_path: Path) -> None:
    commands = Commands(tmp_path / "commands")
    commands.poll()
    assert not commands.take("save")


@pytest.mark.parametrize(
    ("flag", "outcome"), [("stop", "cancelled"), ("cancel", "cancelled"), ("pause", "paused"), ("release", "released")]
)
def test_each_flag_has_its_outcome(flag: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / flag).touch()
    assert outcome_of(Commands(tmp_path)) == outcome


def test_the_harder_ask_wins(tmp_path: Path) -> None:
    for flag in ("release", "pause", "cancel"):
        (tmp_path / flag).touch()
        commands = Commands(tmp_path)
    assert outcome_of(commands) == "cancelled"


def test_a_save_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "save").touch()
    commands = Commands(tmp_path)
    commands.poll()
    assert [commands.take("save"), commands.take("save")] == [True, False]


@pytest.mark.usefixtures("_own_sigterm")
def test_sigterm_means_release(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    commands.listen_for_sigterm()
    os.kill(os.getpid(), signal.SIGTERM)
    assert outcome_of(commands) == "released"
