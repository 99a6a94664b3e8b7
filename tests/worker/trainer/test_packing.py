"""Packed rows are the same mathematics as one example at a time; three easy mistakes are not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.conversations.normalize import normalize
from app.conversations.render import Renderer
from tests.tiny import CPU, make_example, make_examples, picture_conversation
from worker.trainer.attention import DENSE, PACKED, find_segments, use_attention
from worker.trainer.encode import to_example
from worker.trainer.images import Example, Vision
from worker.trainer.losses import target_cross_entropy
from worker.trainer.model import Trainee, checkpoint_layers
from worker.trainer.packing import Row, fill_rows, longest_row, pack, position_ids, target_scales

SIZES = (19, 6), (7, 7 - 1), (31, 12), (1 + 1, 1), (12, 3), (25, 20)


def picture_examples(model_dir: Path) -> list[Example]:
    renderer = Renderer.load(model_dir)
    encoded = [renderer.encode(normalize(picture_conversation(i, 1 + i % 2))) for i in range(3)]
    made = [to_example(line, one) for line, one in enumerate(encoded, start=1)]
    return [one for one in made if one]


def rows_of(examples: list[Example], vision: Vision, budget: int, mean: str = "targets") -> list[Row]:
    scales = target_scales(examples, mean)
    filled = fill_rows([one.num_tokens for one in examples], budget)
    return [pack([examples[i] for i in row], [scales[i] for i in row], vision, CPU) for row in filled]


def loss_and_gradients(trainee: Trainee, rows: list[Row]) -> tuple[float, Tensor]:
    trainee.peft.train()
    trainee.peft.zero_grad()
    total = 0.0
    for row in rows:
        loss = target_cross_entropy(trainee.hidden(row), trainee.head, row.labels, row.scale)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total, torch.cat([one.grad.flatten() for one in trainee.parameters.values() if one.grad is not None])


def assert_same(trainee: Trainee, ours: list[Row], theirs: list[Row]) -> None:
    (loss, gradient), (wanted, wanted_gradient) = loss_and_gradients(trainee, ours), loss_and_gradients(trainee, theirs)
    assert abs(loss - wanted) < 1e-12 * abs(wanted)
    assert float((gradient - wanted_gradient).norm() / wanted_gradient.norm()) < 1e-9


def is_wrong(trainee: Trainee, row: Row, theirs: list[Row]) -> bool:
    (loss, _), (wanted, _) = loss_and_gradients(trainee, [row]), loss_and_gradients(trainee, theirs)
    return abs(loss - wanted) > 1e-4 * abs(wanted)


def test_rows_take_the_longest_first_and_split_nothing() -> None:
    assert fill_rows([3, 9, 5, 2, 4], budget=10) == [[1], [2, 4], [0, 3]]


def test_an_example_longer_than_the_budget_has_a_row_of_its_own() -> None:
    assert fill_rows([3, 90, 3], budget=10) == [[1], [0, 2]]


@pytest.fixture(params=[PACKED, DENSE])
def either(request: pytest.FixtureRequest, exact: Trainee) -> Trainee:
    """With each of the two attentions that know packed rows."""
    use_attention(exact.base, request.param)
    return exact


@pytest.fixture
def dense(exact: Trainee) -> Trainee:
    use_attention(exact.base, DENSE)
    return exact


@pytest.mark.parametrize("mean", ["targets", "examples"])
@pytest.mark.parametrize("checkpointed", [0, 2])
def test_packed_rows_equal_single_examples(either: Trainee, vision: Vision, mean: str, checkpointed: int) -> None:
    checkpoint_layers(either.base, checkpointed)
    examples = make_examples(*SIZES)
    assert len(rows_of(examples, vision, 1000, mean)) == 1
    assert_same(either, rows_of(examples, vision, 1000, mean), rows_of(examples, vision, 1, mean))


@pytest.mark.parametrize("checkpointed", [0, 2])
def test_packed_images_equal_single_examples(
    either: Trainee, vision: Vision, model_dir: Path, checkpointed: int
) -> None:
    checkpoint_layers(either.base, checkpointed)
    examples = [*picture_examples(model_dir), *make_examples(*SIZES[:3])]
    assert_same(either, rows_of(examples, vision, 1000), rows_of(examples, vision, 1))


def test_image_positions_are_those_of_the_model(exact: Trainee, vision: Vision, model_dir: Path) -> None:
    for example in picture_examples(model_dir):
        ids = example.ids.long()[None]
        theirs, _ = exact.base.model.get_rope_index(
            ids, mm_token_type_ids=vision.positions_of_images(ids), image_grid_thw=torch.tensor(example.grids)
        )
        assert torch.equal(position_ids(example, vision)[1:], theirs[:, 0])


def test_a_changed_token_moves_no_other_example(either: Trainee, vision: Vision) -> None:
    examples = make_examples(*SIZES[:3])
    row = pack(examples, [1.0] * 3, vision, CPU)
    changed = row.input_ids.clone()
    changed[0, 3] += 1
    either.peft.eval()
    with torch.no_grad():
        before, after = either.hidden(row), either.hidden(replace(row, input_ids=changed))
    first = examples[0].num_targets
    assert torch.equal(before[first:], after[first:])
    assert not torch.equal(before[:first], after[:first])


def test_without_restarts_of_the_positions_examples_would_see_one_another(either: Trainee, vision: Vision) -> None:
    examples = make_examples(*SIZES)
    row = pack(examples, target_scales(examples, "targets"), vision, CPU)
    plain = torch.arange(row.num_tokens)[None]
    plain_row = replace(row, position_ids=plain, segments=find_segments(plain))
    assert is_wrong(either, plain_row, rows_of(examples, vision, 1))


def test_with_image_positions_alone_examples_would_see_one_another(
    dense: Trainee, vision: Vision, model_dir: Path
) -> None:
    examples = picture_examples(model_dir)
    row = pack(examples, target_scales(examples, "targets"), vision, CPU)
    assert is_wrong(dense, replace(row, position_ids=row.position_ids[1:]), rows_of(examples, vision, 1))


def test_image_positions_alone_make_no_row(vision: Vision, model_dir: Path) -> None:
    examples = picture_examples(model_dir)
    row = pack(examples, target_scales(examples, "targets"), vision, CPU)
    assert row.segments.lengths == tuple(one.num_tokens for one in examples)
    with pytest.raises(ValueError, match="need the text positions"):
        find_segments(row.position_ids[1:])


def test_with_a_mask_of_ones_examples_would_see_one_another(dense: Trainee, vision: Vision) -> None:
    examples = make_examples(*SIZES)
    row = pack(examples, target_scales(examples, "targets"), vision, CPU)
    dense.peft.eval()
    with torch.no_grad():
        masked = dense.base.model(
            input_ids=row.input_ids,
            position_ids=row.position_ids,
            attention_mask=torch.ones_like(row.input_ids),
            use_cache=False,
        ).last_hidden_state[0, row.predictors]
        assert float((masked - dense.hidden(row)).abs().max()) > 1e-3


def test_the_longest_row_to_come_is_found_over_all_steps() -> None:
    steps = [make_examples((20, 1), (9, 1), (8, 1)), make_examples((16, 1), (14, 1)), make_examples((3, 1))]
    found = longest_row(steps, budget=30)
    assert [one.num_tokens for one in found] == [16, 14]
    assert [one.num_tokens for one in longest_row(steps, budget=10)] == [20]


def test_no_example_predicts_its_neighbours_first_token(vision: Vision) -> None:
    examples = [make_example(1, 4, 3), make_example(2, 3, 2)]
    row = pack(examples, [1.0, 1.0], vision, CPU)
    assert row.predictors.tolist() == [0, 1, 2, 4, 5]
    assert row.labels.tolist() == [*examples[0].ids[1:].tolist(), *examples[1].ids[1:].tolist()]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]


def test_each_target_or_each_example_weighs_the_same() -> None:
    examples = make_examples((10, 1), (10, 3))
    assert target_scales(examples, "targets") == [0.25, 0.25]
    assert target_scales(examples, "examples") == pytest.approx([0.5, 1 / 6])
