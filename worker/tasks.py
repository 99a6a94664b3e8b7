"""The edge to Celery: a message says that there may be work, nothing more."""

from collections.abc import Callable, Sequence

from app.config import Settings
from app.gpus import Gpu
from worker.lane import TRAINER, Lane

_lanes: list[Lane] = []


def open_lane(settings: Settings, gpus: Sequence[Gpu], draining: Callable[[], bool]) -> None:
    """Called in each pool process after its fork."""
    lane = Lane(settings, gpus, draining, TRAINER)
    _lanes[:] = [lane]
    lane.start()


def close_lane() -> None:
    """Called when the pool process ends: a job that its own clock found has to be put back first."""
    for lane in _lanes:
        lane.close()


def work() -> None:
    """Body of the task `worker.work`."""
    for lane in _lanes:
        lane.work()
