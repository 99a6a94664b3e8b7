"""Wake-ups: Celery messages that say "there is work" and nothing else. The job's row is the truth."""

import logging
from importlib import import_module
from typing import Any

from app.broker import broker_url
from app.config import Settings

TASK = "worker.work"
logger = logging.getLogger(__name__)


class Waker:
    """Sends wake-ups to lanes, from one thread. A broker that is down delays a job and never fails a request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._celery: Any = None
        self._away: tuple[type[Exception], ...] = ()

    def load(self) -> None:
        """Import Celery: done by the thread that sends, so that the pages are there without waiting for it."""
        self._away = (import_module("redis").RedisError, import_module("kombu.exceptions").OperationalError, OSError)
        self._celery = import_module("celery").Celery("app", broker=broker_url(self._settings), set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            broker_connection_timeout=2,
            broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 2, "max_retries": 0},
        )

    def wake(self, queue: str) -> bool:
        """Put one wake-up into the queue unless one stands there; false where the broker is out of reach."""
        if self._celery is None:
            self.load()
        try:
            with self._celery.producer_or_acquire() as producer:
                if producer.channel.client.llen(queue) == 0:
                    self._celery.send_task(TASK, queue=queue, producer=producer, ignore_result=True, retry=False)
        except self._away as error:
            logger.warning("The broker cannot be reached, lanes look for work by themselves: %s", error)
            return False
        return True

    def close(self) -> None:
        if self._celery is not None:
            self._celery.close()
