"""The sample that comes with the project."""

from pathlib import Path

from app.templating import ROOT

SAMPLES = ROOT / "examples"


def sample_file() -> Path | None:
    """Where it is there."""
    return next(iter(sorted(SAMPLES.glob("*.jsonl"))), None)


def has_sample() -> bool:
    return sample_file() is not None
