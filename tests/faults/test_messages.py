"""What stands in a lane's queue is a nudge at most: doubled, damaged, hostile or gone, the job is trained once."""

import json
import pickle
import shutil
from typing import Any

import pytest
import redis
from celery import Celery

from app.broker import broker_directory, broker_url, socket_path
from app.config import Settings
from app.queue import TASK
from tests.faults.course import Course
from tests.faults.system import System, hold, let_go

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.place, "w")


@pytest.fixture
def settings(system: System) -> Settings:
    return Settings(data_dir=system.data_dir, redis_url=None)


def lane_queue(system: System) -> str:
    node = next(one for one in system.get("/api/nodes")["items"] if one["name"] != "far")
    return f"lane.{node['name']}.cpu"


def garbage(place: str) -> list[bytes]:
    """Not JSON, JSON of no message, a message of nothing, one that is pickled."""
    pickled: dict[str, Any] = {
        "body": pickle.dumps(Bomb(place)).hex(),
        "content-type": "application/x-python-serialize",
    }
    properties = {"delivery_info": {"exchange": "", "routing_key": "x"}, "delivery_tag": "1", "body_encoding": "base64"}
    pickled |= {"content-encoding": "binary", "headers": {"task": TASK, "id": "1"}, "properties": properties}
    empty = pickled | {"body": "", "content-type": "application/json", "headers": {}}
    return [b"\x80\x04nonsense", b"[1, 2]", b"{}", *(json.dumps(one).encode() for one in (empty, pickled))]


def test_garbage_and_twenty_doubles_train_a_job_once(system: System, settings: Settings, reference: str) -> None:
    child, queue, bomb = system.must_find("Celery child"), lane_queue(system), system.data_dir / "bomb"
    hold(child)
    course = Course(system).begin()
    with redis.Redis(unix_socket_path=str(socket_path(broker_directory(settings)))) as broker:
        broker.lpush(queue, *garbage(str(bomb)))
    with Celery(broker=broker_url(settings), set_as_current=False) as sender:
        for _ in range(20):
            sender.send_task(TASK, queue=queue, ignore_result=True)
    let_go(child)
    course.wait_for("succeeded")
    course.check(["succeeded"], reference)
    assert not bomb.exists()


def test_a_broker_that_lost_everything_costs_no_job(system: System, settings: Settings, reference: str) -> None:
    child = system.must_find("Celery child")
    hold(child)
    course = Course(system).begin()
    system.must_find("broker's launcher").kill()
    shutil.rmtree(broker_directory(settings), ignore_errors=True)
    let_go(child)
    course.wait_for("succeeded")
    course.check(["succeeded"], reference)
