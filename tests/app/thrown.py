"""Things to throw away, and ways to do it."""

from datetime import timedelta

from app.services import purge
from tests.factories import Center, Claim


def delete(center: Center, path: str) -> int:
    return int(center.client.delete(path, headers=center.headers).status_code)


def ids(center: Center, path: str) -> list[int]:
    return [one["id"] for one in center.get(path).json()["items"]]


def finished(center: Center, *steps: int) -> Claim:
    """A job that wrote checkpoints and an adapter, and succeeded."""
    center.make_job(config={"keep_checkpoints": 10})
    claim = center.worker().must_claim()
    claim.begin()
    for step in steps:
        claim.beat(claim.step(step))
        claim.checkpoint(step, b"%d" % step, eval_loss=float(step))
    assert claim.succeed().status_code == 200
    return claim


def expire(center: Center) -> int:
    with center.database.write() as session:
        return purge.expired(session, center.app.state.storage, timedelta(0))
