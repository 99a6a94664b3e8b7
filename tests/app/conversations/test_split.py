import pytest

from app.conversations.split import split_validation


@pytest.mark.parametrize(
    ("num_valid", "num_validation"), [(0, 0), (1, 0), (19, 0), (20, 1), (100, 1), (149, 1), (1000, 10), (10_000, 100)]
)
def test_one_percent_is_kept_aside_and_one_record_from_twenty_on(num_valid: int, num_validation: int) -> None:
    train, validation = split_validation(num_valid, 0.01, 42)
    assert len(validation) == num_validation
    assert sorted(train + validation) == list(range(num_valid))


def test_the_seed_fixes_the_choice() -> None:
    assert split_validation(1000, 0.01, 42) == split_validation(1000, 0.01, 42)
    assert split_validation(1000, 0.01, 42) != split_validation(1000, 0.01, 43)


def test_without_a_share_everything_is_trained() -> None:
    assert split_validation(50, 0, 42) == (list(range(50)), [])


def test_both_sides_keep_the_order_of_the_file() -> None:
    for indices in split_validation(500, 0.3, 1):
        assert indices == sorted(indices)
