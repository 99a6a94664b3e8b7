"""Wake-ups: Celery messages that say "there is work" and nothing else. The job's row is the truth."""

import logging

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.broker import broker_url
from app.config import Settings

TASK = "worker.work"
logger = logging.getLogger(__name__)


class Waker:
    """Sends wake-ups to lanes. A broker that is down delays a job and never fails a request."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("app", broker=broker_url(settings), set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            broker_connection_timeout=2,
            broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 2, "max_retries": 0},
        )

    def wake(self, queue: str) -> bool:
        """Put one wake-up into the queue unless one stands there; false where the broker is out of reach."""
        try:
            with self._celery.producer_or_acquire() as producer:
                if producer.channel.client.llen(queue) == 0:
                    self._celery.send_task(TASK, queue=queue, producer=producer, ignore_result=True, retry=False)
        except (RedisError, OperationalError, OSError) as error:
            logger.warning("The broker cannot be reached, lanes look for work by themselves: %s", error)
            return False
        return True

    def close(self) -> None:
        self._celery.close()
