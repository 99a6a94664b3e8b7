"""Memory that runs out: the same step again, in rows that fit, as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.schemas import TrainingConfig
from tests.tiny import make_example, make_examples, make_trainee
from worker.trainer.back_off import RowBudget, is_out_of_memory
from worker.trainer.evaluate import evaluate, rehearse_evaluation
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example, Vision
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.model import Trainee, checkpoint_all_layers, checkpoint_layers

EXAMPLES = make_examples(*[(9 + 5 * i % 23, 2 + i % 5) for i in range(20)])
# The four examples of each step together, then half of the first step's row.
STEP, WHOLE, HALF = 4, 1024, 33


def members(step: int) -> list[Example]:
    return EXAMPLES[(step - 1) * STEP % 20 :][:STEP]


def make_stepper(trainee: Trainee, vision: Vision, budget: RowBudget) -> Stepper:
    config = TrainingConfig(learning_rate=1e-2, gradient_accumulation=STEP)
    return Stepper(trainee, make_optimizer(trainee, config), config, vision, lambda step: 1e-2, budget, lambda: None)


def weights_after(trainee: Trainee, vision: Vision, budget: RowBudget, rehearse: bool = False) -> Tensor:
    torch.manual_seed(7)
    stepper = make_stepper(trainee, vision, budget)
    if rehearse:
        stepper.rehearse(lambda: map(members, range(1, 6)))
    list(stepper.steps(members, 1, 5))
    return torch.cat([one.detach().flatten() for one in trainee.parameters.values()])


def fail_in_forward(made: Tensor) -> None:
    raise torch.OutOfMemoryError("simulated")


def fail_in_backward(made: Tensor) -> None:
    made.register_hook(fail_in_forward)  # type: ignore[no-untyped-call]


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, most: int, fail: Callable[[Tensor], None] = fail_in_forward
) -> list[int]:
    """Rows of more tokens run out of memory, after they have drawn their dropout. Fills a list of all rows."""
    hidden, rows = Trainee.hidden, list[int]()

    def limited(self: Trainee, row: Any) -> Tensor:
        rows.append(row.num_tokens)
        made = hidden(self, row)
        if row.num_tokens > most:
            fail(made)
        return made

    monkeypatch.setattr(Trainee, "hidden", limited)
    return rows


@pytest.mark.parametrize("fail", [fail_in_forward, fail_in_backward])
def test_the_step_is_repeated_bit_for_bit_with_its_dropout(
    model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch, fail: Callable[[Tensor], None]
) -> None:
    wanted = weights_after(make_trainee(model_dir, lora_dropout=0.3), vision, RowBudget(HALF, print))
    rows, said = limit_memory(monkeypatch, 40, fail), list[str]()
    assert sum(one.num_tokens for one in members(1)) // 2 == HALF
    budget = RowBudget(WHOLE, said.append)
    found = weights_after(make_trainee(model_dir, lora_dropout=0.3), vision, budget)
    assert torch.equal(found, wanted)
    assert said == ["Out of memory in step 1: rows hold 33 tokens from now on, not 1,024"]
    assert (budget.tokens, max(rows[1:])) == (HALF, HALF)


def test_without_dropout_it_changes_no_result(model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = weights_after(make_trainee(model_dir, torch.float64), vision, RowBudget(WHOLE, print))
    limit_memory(monkeypatch, 31)
    found = weights_after(make_trainee(model_dir, torch.float64), vision, RowBudget(WHOLE, print))
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_an_example_that_does_not_fit_alone_fails_the_job_by_its_line(
    model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 40)
    stepper = make_stepper(make_trainee(model_dir), vision, RowBudget(WHOLE, print))
    with pytest.raises(JobFailed, match="Line 77 alone, with 41 tokens") as failed:
        list(stepper.steps(lambda step: [EXAMPLES[0], make_example(77, 41, 5)], 1, 1))
    assert failed.value.code == "out_of_memory"
    assert all(one.grad is None for one in stepper.trainee.parameters.values())


def test_before_an_example_is_given_up_every_layer_is_recomputed(
    model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee, said = make_trainee(model_dir), list[str]()
    checkpoint_layers(trainee.base, 0)
    hidden, layer = Trainee.hidden, trainee.base.model.language_model.layers[1]

    def limited(self: Trainee, row: Any) -> Tensor:
        if not layer.gradient_checkpointing:
            raise torch.OutOfMemoryError("simulated")
        return hidden(self, row)

    monkeypatch.setattr(Trainee, "hidden", limited)
    budget = RowBudget(12, said.append, spare=lambda: checkpoint_all_layers(trainee.base))
    list(make_stepper(trainee, vision, budget).steps(lambda step: EXAMPLES[:1], 1, 1))
    assert said == ["Out of memory in step 1: every layer is recomputed from now on"]
    assert budget.tokens == 12


def test_an_evaluation_goes_on_in_shorter_rows(exact: Trainee, vision: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = evaluate(exact, EXAMPLES, vision, RowBudget(WHOLE, print), lambda: None)
    limit_memory(monkeypatch, 50)
    budget, said = RowBudget(WHOLE, print), list[str]()
    budget.say = said.append
    found = evaluate(exact, EXAMPLES, vision, budget, lambda: None)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-12)
    assert said[0].startswith("Out of memory in the evaluation: rows hold ")
    assert budget.tokens <= 50


def test_a_rehearsal_changes_no_result(model_dir: Path, vision: Vision) -> None:
    plain = weights_after(make_trainee(model_dir, lora_dropout=0.3), vision, RowBudget(50, print))
    rehearsed = weights_after(make_trainee(model_dir, lora_dropout=0.3), vision, RowBudget(50, print), rehearse=True)
    assert torch.equal(rehearsed, plain)


def test_a_rehearsal_runs_the_longest_row_alone(
    model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = limit_memory(monkeypatch, WHOLE)
    stepper = make_stepper(make_trainee(model_dir), vision, RowBudget(WHOLE, print))
    generators = torch.get_rng_state()
    stepper.rehearse(lambda: map(members, range(1, 6)))
    assert rows == [max(sum(one.num_tokens for one in members(step)) for step in range(1, 6))]
    assert all(one.grad is None for one in stepper.trainee.parameters.values())
    assert torch.equal(torch.get_rng_state(), generators)
    assert not stepper.optimizer.state


def test_a_rehearsal_finds_the_budget_before_the_first_step(
    model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 40)
    budget, said = RowBudget(WHOLE, print), list[str]()
    stepper = make_stepper(make_trainee(model_dir), vision, budget)
    stepper.rehearse(lambda: map(members, range(1, 6)))
    budget.say = said.append
    list(stepper.steps(members, 1, 5))
    assert budget.tokens <= 40
    assert said == []


def test_a_rehearsed_evaluation_finds_its_budget(
    exact: Trainee, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, budget = limit_memory(monkeypatch, 40), RowBudget(60, print)
    rehearse_evaluation(exact, EXAMPLES, vision, budget, lambda: None)
    assert 40 < rows[0] <= 60
    assert budget.tokens <= 40


@pytest.mark.parametrize(("text", "wanted"), [("CUBLAS_STATUS_ALLOC_FAILED when calling", True), ("shape", False)])
def test_other_libraries_say_it_in_their_own_words(text: str, wanted: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) is wanted


def test_another_error_leaves_nothing_behind(model_dir: Path, vision: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(made: Tensor) -> None:
        raise RuntimeError("odd")

    limit_memory(monkeypatch, 40, broken)
    stepper = make_stepper(make_trainee(model_dir), vision, RowBudget(WHOLE, print))
    with pytest.raises(RuntimeError, match="odd"):
        list(stepper.steps(members, 1, 1))
    assert all(one.grad is None for one in stepper.trainee.parameters.values())
