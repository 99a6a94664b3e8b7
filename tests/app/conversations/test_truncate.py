import pytest

from app.conversations.encoded import Encoded, ImageSpan
from app.conversations.records import Image
from app.conversations.truncate import truncate

PICTURE = Image(b"", "", 32, 32)
# Tokens 0..9; the picture's own are 3..6, the targets 7..9.
EXAMPLE = Encoded(list(range(10)), bytes(place >= 7 for place in range(10)), (ImageSpan(PICTURE, (1, 2, 4), 3, 7),))


@pytest.mark.parametrize("mode", ["drop", "left", "right"])
def test_an_example_that_fits_stays_as_it_is(mode: str) -> None:
    assert truncate(EXAMPLE, 10, mode) == EXAMPLE  # type: ignore[arg-type]


def test_drop_leaves_out_what_is_too_long() -> None:
    assert truncate(EXAMPLE, 9, "drop") is None


def test_left_keeps_the_end_and_moves_the_picture_along() -> None:
    cut = truncate(EXAMPLE, 8, "left")
    assert cut is not None
    assert (cut.ids, cut.num_targets) == ([2, 3, 4, 5, 6, 7, 8, 9], 3)
    assert (cut.images[0].start, cut.images[0].end) == (1, 5)


def test_right_keeps_the_start() -> None:
    cut = truncate(EXAMPLE, 8, "right")
    assert cut is not None
    assert (cut.ids, cut.target_mask[-1], cut.num_targets) == (list(range(8)), 1, 1)


@pytest.mark.parametrize(("mode", "max_length"), [("left", 4), ("left", 6), ("right", 4), ("right", 6)])
def test_a_picture_is_never_cut_in_half(mode: str, max_length: int) -> None:
    assert truncate(EXAMPLE, max_length, mode) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "kept"), [("left", [7, 8, 9]), ("right", [0, 1, 2])])
def test_a_picture_may_go_as_a_whole(mode: str, kept: list[int]) -> None:
    cut = truncate(EXAMPLE, 3, mode)  # type: ignore[arg-type]
    assert cut is not None
    assert (cut.ids, cut.images) == (kept, ())


def test_a_picture_at_the_edge_stays_whole() -> None:
    cut = truncate(EXAMPLE, 7, "left")
    assert cut is not None
    assert (cut.images[0].start, cut.images[0].end) == (0, 4)
