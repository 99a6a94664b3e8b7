"""The Celery worker as it is, but for its trainer: `celery -A tests.worker.celery_with_fake_trainer worker`."""

import os
import sys
from pathlib import Path

from worker import lane, tasks

# Before the pool process is forked, which is when the lane takes it.
tasks.TRAINER = (sys.executable, str(Path(__file__).parent / "fake_trainer.py"), os.environ["FAKE_TRAINER_PLAN"])
lane.POLL_S = float(os.environ.get("FAKE_POLL_S", lane.POLL_S))

from worker.main import app  # noqa: E402

__all__ = ["app"]
