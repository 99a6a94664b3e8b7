"""Waiting for what has to happen, on machines of any speed."""

import time
from collections.abc import Callable

import pytest

PATIENT_S = 60.0


def until(condition: Callable[[], object], seconds: float = PATIENT_S) -> None:
    """Returns once the condition holds; fails the test when it does not in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not happen in time")
        time.sleep(0.02)
