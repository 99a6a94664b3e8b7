"""Processes that stand still for longer than the lease and then go on as if nothing had happened."""

import time

import pytest

from tests.faults.course import STEPPING, Course, catch
from tests.faults.system import LEASE_S, TRAINER, System, hold, is_alive, let_go, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_worker_that_slept_through_its_lease_is_fenced_and_ends_its_trainer(system: System, reference: str) -> None:
    course = Course(system).begin()
    trainer = catch(course, STEPPING)
    parent, child = system.must_find("Celery parent"), system.must_find("Celery child")
    hold(parent)
    hold(child)
    course.wait_for("queued")
    for process in (trainer, child, parent):
        let_go(process)
    until(lambda: not is_alive(trainer), "the end of the trainer that lost its job")
    assert course.wait_for("succeeded")["attempt"] == 2
    assert (is_alive(parent), is_alive(child)) == (True, True)
    course.check(["succeeded"], reference)


@pytest.mark.parametrize("who", [TRAINER, "web"])
def test_what_stood_still_past_the_lease_goes_on_in_the_same_attempt(system: System, reference: str, who: str) -> None:
    course = Course(system).begin()
    trainer = catch(course, STEPPING)
    frozen = system.must_find(who)
    hold(frozen)
    let_go(trainer if who != TRAINER else system.must_find("web"))
    time.sleep(2.5 * LEASE_S)
    let_go(frozen)
    assert course.wait_for("succeeded")["attempt"] == 1
    course.check(["succeeded"], reference)


def test_a_trainer_that_stands_still_can_be_stopped(system: System) -> None:
    course = Course(system).begin()
    trainer = catch(course, STEPPING)
    system.post(f"/api/jobs/{course.job_id}/cancel", {"save": False})
    course.wait_for("cancelled")
    until(lambda: not is_alive(trainer), "the end of a trainer that does not answer")
