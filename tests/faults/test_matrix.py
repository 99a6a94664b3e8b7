"""Whoever is killed, whenever: each job ends once, nothing is lost, nothing comes twice, the weights are the same."""

import pytest

from tests.faults.course import (
    CLAIMED,
    LOADING,
    QUEUED,
    SAVING,
    STEPPING,
    STOPPING,
    UPLOADING,
    Course,
    Moment,
    catch,
    strike,
)
from tests.faults.system import EVERYTHING, LAUNCHER, PARTS, TRAINER, System, hold, is_alive, until

pytestmark = pytest.mark.timeout(900)

ON_ITS_WAY = (QUEUED, LOADING, STEPPING, SAVING, UPLOADING)
# The trainer does not wait for a web process that is away, so these moments need a job each.
APART = ((QUEUED, LOADING, UPLOADING), (STEPPING,), (SAVING,))
# Before it loads there is no trainer, and once it has said its last word its end is wanted.
WITH_A_TRAINER = (LOADING, STEPPING, SAVING)
WHOLE = [
    *(("web", moments) for moments in APART),
    *((who, ON_ITS_WAY) for who in (*PARTS[1:], EVERYTHING)),
    (LAUNCHER, ON_ITS_WAY),
    (TRAINER, WITH_A_TRAINER),
]


def begin(system: System, first: Moment) -> Course:
    """A new job; where the first fault is to meet it in the queue, its lane is held still for now."""
    if first is QUEUED:
        hold(system.must_find("Celery child"))
    return Course(system).begin()


def carry_out(system: System, faults: list[tuple[str, Moment]], reference: str) -> None:
    """One job that meets these faults, one after the other, and succeeds."""
    course = begin(system, faults[0][1])
    for who, moment in faults:
        strike(course, who, moment)
    course.wait_for("succeeded")
    course.check(["succeeded"], reference)


def stop(course: Course, who: str) -> None:
    """The job is told to save and stop, and `who` dies before it has."""
    trainer = catch(course, STEPPING)
    until(course.checkpoints, f"a checkpoint of job {course.job_id}")
    course.system.post(f"/api/jobs/{course.job_id}/cancel")
    strike(course, who, STOPPING)
    assert course.job()["state"] == "cancelled" and not is_alive(trainer)


def test_a_job_outlives_five_deaths(system: System, reference: str) -> None:
    faults = [("broker's launcher", QUEUED), ("web", LOADING), ("broker", STEPPING)]
    carry_out(system, [*faults, (TRAINER, SAVING), ("web", UPLOADING)], reference)


def test_a_stop_is_kept_although_everything_dies_meanwhile(system: System, reference: str) -> None:
    course = Course(system).begin()
    stop(course, EVERYTHING)
    course.check(["cancelled"], reference)


@pytest.mark.slow
@pytest.mark.parametrize(("who", "moments"), WHOLE, ids=lambda one: str(one[0].name if isinstance(one, tuple) else one))
def test_nothing_is_lost_or_doubled_whenever_it_dies(
    system: System, reference: str, who: str, moments: tuple[Moment, ...]
) -> None:
    carry_out(system, [(who, moment) for moment in moments], reference)


@pytest.mark.slow
@pytest.mark.parametrize("who", [*PARTS, EVERYTHING, LAUNCHER, TRAINER])
def test_a_job_that_is_being_stopped_is_stopped_whoever_dies(system: System, reference: str, who: str) -> None:
    course = Course(system).begin()
    if who != TRAINER:
        strike(course, who, CLAIMED)
    stop(course, who)
    system.post(f"/api/jobs/{course.job_id}/resume")
    course.wait_for("succeeded")
    course.check(["cancelled", "succeeded"], reference)
