"""The Celery worker of one lane: `celery -A worker.main worker -Q lane.NODE.LANE -P prefork -c 1`.

The parent process beats; its one pool process claims jobs and supervises them. Neither imports torch.
"""

import logging
import mmap
from typing import Any, ClassVar

from celery import Celery, bootsteps, signals

from app.broker import NO_BROKER, broker_url
from app.config import Settings
from app.gpus import gpus_of_lane
from worker.node import Heart
from worker.pool_watch import watch_pool
from worker.tasks import close_lane, open_lane, work

settings = Settings()
# Found before any fork, so that NVML is never open on both sides of one.
gpus = gpus_of_lane(settings.lane)

app = Celery("worker", broker=broker_url(settings))
app.conf.update(
    # One message at a time and none held back: what a worker reserves is what Redis delivers twice.
    worker_disable_prefetch=settings.redis_url != NO_BROKER,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    task_acks_late=False,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    result_backend=None,
    accept_content=["json"],
    task_serializer="json",
    # The lane's own clock claims while the broker is away, so the worker waits for it without end.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Nobody commands workers through the broker: whoever could write to it would command them too.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_redirect_stdouts=False,
    worker_proc_alive_timeout=30.0,
    worker_log_format="%(asctime)s %(levelname)s %(name)s: %(message)s",
)
if settings.redis_url:
    app.conf.broker_transport_options = {"socket_keepalive": True}
app.task(work, name="worker.work")


# One byte that the parent shares with the pool processes it forks: 1 once it is ending.
_drain_mark = mmap.mmap(-1, 1)


def draining() -> bool:
    return _drain_mark[0] == 1


_hearts: list[Heart] = []


class HeartStep(bootsteps.StartStopStep):
    """Beats from the time the pool is there, even if the broker is not."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        _hearts[:] = [Heart(settings, gpus, draining)]

    def start(self, parent: Any) -> None:
        for heart in _hearts:
            heart.start()
        watch_pool(draining)


app.steps["worker"].add(HeartStep)


def _begin_child(**_: Any) -> None:
    open_lane(settings, gpus, draining)


def _end_child(**_: Any) -> None:
    close_lane()


def _drain(**_: Any) -> None:
    _drain_mark[0] = 1
    for heart in _hearts:
        heart.nudge()


def _leave(**_: Any) -> None:
    # The pool has ended: its job was saved and released under a heart that still beat.
    if draining():
        for heart in _hearts:
            heart.leave()


def _log_ours(**_: Any) -> None:
    logging.getLogger("worker").setLevel(logging.INFO)


# Strong references: Celery would drop the functions otherwise.
signals.worker_process_init.connect(_begin_child, weak=False)
signals.worker_process_shutdown.connect(_end_child, weak=False)
signals.worker_shutting_down.connect(_drain, weak=False)
signals.worker_shutdown.connect(_leave, weak=False)
signals.after_setup_logger.connect(_log_ours, weak=False)
