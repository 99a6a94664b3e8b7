"""Which valid records are kept aside for validation, and how often an epoch draws from a dataset."""

import random
from collections.abc import Sequence

LEAST_FOR_VALIDATION = 20


def num_for_validation(num_valid: int, share: float) -> int:
    """From 20 valid records on at least one is kept aside; with fewer, or with share 0, none is."""
    if num_valid < LEAST_FOR_VALIDATION or share <= 0:
        return 0
    return min(max(1, round(num_valid * share)), num_valid - 1)


def choose_validation(
    num_valid: int,
    wanted: int,
    seed: int,
    groups: Sequence[int] | None = None,
    strata: Sequence[str] | None = None,
) -> tuple[list[int], list[int]]:
    """(train indices, validation indices) in file order, fixed by the seed, with as many for validation as wanted.

    With `groups`, one a record, no group stands on both sides: it may be fewer.
    With `strata`, one a record, each gives its part of the number; a group counts to the stratum of its first record.
    """
    if strata is None:
        chosen = _chosen(range(num_valid), wanted, seed, groups)
    else:
        rows = _by_stratum(strata, groups)
        parts = shared_out([len(row) for row in rows], wanted)
        chosen = set().union(*(_chosen(row, part, seed, groups) for row, part in zip(rows, parts, strict=True)))
    return [i for i in range(num_valid) if i not in chosen], sorted(chosen)


def shared_out(sizes: Sequence[int], total: int) -> list[int]:
    """A total in parts by size, rounded as a running sum, so that they add up to it."""
    reached = given = 0
    parts = []
    for size in sizes:
        reached += size
        parts.append(round(total * reached / max(1, sum(sizes))) - given)
        given += parts[-1]
    return parts


def _by_stratum(strata: Sequence[str], groups: Sequence[int] | None) -> list[list[int]]:
    of_group: dict[int, str] = {}
    rows: dict[str, list[int]] = {}
    for index, stratum in enumerate(strata):
        name = stratum if groups is None else of_group.setdefault(groups[index], stratum)
        rows.setdefault(name, []).append(index)
    return [rows[name] for name in sorted(rows)]


def _chosen(rows: Sequence[int], wanted: int, seed: int, groups: Sequence[int] | None) -> set[int]:
    if groups is None:
        return set(random.Random(seed).sample(rows, wanted))
    return _whole_groups(rows, groups, wanted, seed)


def _whole_groups(rows: Sequence[int], groups: Sequence[int], wanted: int, seed: int) -> set[int]:
    members: dict[int, list[int]] = {}
    for index in rows:
        members.setdefault(groups[index], []).append(index)
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
    parts = shared_out(nums_valid, count)
    return [max(0, min(part, num_valid - 1)) for part, num_valid in zip(parts, nums_valid, strict=True)]
