"""Which valid records are kept aside for validation, and how often an epoch draws from a dataset."""

import random
from collections.abc import Sequence

LEAST_FOR_VALIDATION = 20


def num_for_validation(num_valid: int, share: float) -> int:
    """From 20 valid records on at least one is kept aside; with fewer, or with share 0, none is."""
    if num_valid < LEAST_FOR_VALIDATION or share <= 0:
        return 0
    return min(max(1, round(num_valid * share)), num_valid - 1)


def split_validation(num_valid: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """(train indices, validation indices) in file order, fixed by the seed."""
    return choose_validation(num_valid, num_for_validation(num_valid, share), seed)


def choose_validation(
    num_valid: int, wanted: int, seed: int, groups: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """The same for a number of records. With `groups`, one a record, no group stands on both sides: it may be fewer."""
    if groups is None:
        chosen = set(random.Random(seed).sample(range(num_valid), wanted))
    else:
        chosen = _whole_groups(groups, wanted, seed)
    return [i for i in range(num_valid) if i not in chosen], sorted(chosen)


def _whole_groups(groups: Sequence[int], wanted: int, seed: int) -> set[int]:
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = list(members.values())
    random.Random(seed).shuffle(order)
    chosen: set[int] = set()
    for group_members in order:
        if len(chosen) + len(group_members) <= wanted:
            chosen.update(group_members)
    return chosen


def draws(num_examples: int, weight: float) -> int:
    """How many examples an epoch takes from a dataset of that weight."""
    return max(1, round(num_examples * weight)) if num_examples else 0


def kept_aside(nums_valid: Sequence[int], share: float, count: int | None) -> list[int]:
    """How many records of each dataset are for validation: each gives that share, or its part of the count."""
    if count is None:
        return [num_for_validation(one, share) for one in nums_valid]
    reached = given = 0
    wanted = []
    for num_valid in nums_valid:  # rounded as a running sum, so that they add up to the count
        reached += num_valid
        part = round(count * reached / max(1, sum(nums_valid))) - given
        given += part
        wanted.append(max(0, min(part, num_valid - 1)))
    return wanted
