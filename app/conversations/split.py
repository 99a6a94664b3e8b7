"""Which valid records are kept aside for validation."""

import random

LEAST_FOR_VALIDATION = 20


def split_validation(num_valid: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """(train indices, validation indices) in file order, fixed by the seed.

    From 20 valid records on at least one is kept aside; with fewer, or with share 0, none is.
    """
    if num_valid < LEAST_FOR_VALIDATION or share <= 0:
        return list(range(num_valid)), []
    num_validation = min(max(1, round(num_valid * share)), num_valid - 1)
    chosen = set(random.Random(seed).sample(range(num_valid), num_validation))
    return [i for i in range(num_valid) if i not in chosen], sorted(chosen)
