from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import make_examples, of_kind
from worker.trainer.data import Data
from worker.trainer.events import EventLog
from worker.trainer.guardian import WINDOW, Guardian
from worker.trainer.loop import StepMetrics


@pytest.fixture
def guardian(tmp_path: Path) -> Iterator[Guardian]:
    with closing(EventLog(tmp_path / "events.jsonl")) as events:
        yield Guardian(events)


def step(number: int, loss: float = 1.0, norm: float = 1.0, seconds: float = 1.0) -> StepMetrics:
    return StepMetrics(number, loss, 1e-4, norm, 1000, 100, seconds)


def codes(tmp_path: Path) -> list[str]:
    return [one["code"] for one in of_kind(tmp_path, "advice")]


def test_an_ordinary_job_hears_nothing(guardian: Guardian, tmp_path: Path) -> None:
    for number in range(1, 100):
        guardian.saw_step(step(number, 2 / number, 1 + number % 3, 1 + number % 2))
        guardian.saw_evaluation(2 / number)
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "changed"),
    [("loss_rising", {"loss": 3.0}), ("gradient_exploding", {"norm": 50.0}), ("throughput_drop", {"seconds": 4.0})],
)
def test_what_goes_wrong_is_said_once(guardian: Guardian, tmp_path: Path, code: str, changed: dict[str, Any]) -> None:
    for number in range(1, WINDOW + 1):
        guardian.saw_step(step(number))
    for number in range(WINDOW + 1, 3 * WINDOW):
        guardian.saw_step(step(number, **changed))
    assert codes(tmp_path) == [code]
    assert all(of_kind(tmp_path, "advice")[0][key] for key in ("message", "action"))


def test_a_norm_is_called_clipped_only_where_it_is(tmp_path: Path) -> None:
    for limit, said in ((1.0, "It is clipped at 1; if"), (100.0, "If the loss suffers, lower")):
        (folder := tmp_path / f"{limit}").mkdir()
        with closing(EventLog(folder / "events.jsonl")) as events:
            guardian = Guardian(events, max_norm=limit)
            for number in range(1, WINDOW + 2):
                guardian.saw_step(step(number, norm=50.0 if number > WINDOW else 1.0))
        (advice,) = of_kind(folder, "advice")
        assert advice["action"].startswith(said)


@pytest.mark.parametrize(("trained", "said"), [([4, 3, 2, 1], ["overfitting"]), ([1, 2, 3, 4], [])])
def test_overfitting_is_a_validation_loss_that_rises_while_the_other_falls(
    guardian: Guardian, tmp_path: Path, trained: list[float], said: list[str]
) -> None:
    for number, loss in enumerate(trained, start=1):
        guardian.saw_step(step(number, loss))
        guardian.saw_evaluation(float(number))
    assert codes(tmp_path) == said


def test_a_tiny_share_of_targets_is_said(guardian: Guardian, tmp_path: Path) -> None:
    guardian.saw_data(Data(make_examples((1000, 5), (1000, 5)), [], {}, 0))
    assert codes(tmp_path) == ["few_targets"]


def test_each_end_of_memory_is_said(guardian: Guardian, tmp_path: Path) -> None:
    for tokens in (2048, 1024):
        guardian.saw_memory_end(f"Out of memory: rows hold {tokens} tokens from now on")
    assert codes(tmp_path) == ["memory_short"] * 2


def test_it_can_be_switched_off(guardian: Guardian, tmp_path: Path) -> None:
    guardian.silent = True
    guardian.saw_memory_end("Out of memory")
    assert codes(tmp_path) == []
