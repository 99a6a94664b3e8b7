"""Roll-ups: what they answer is what a look at every single step would answer."""

import random
from collections.abc import Iterator

import pytest
from sqlmodel import Session, col, select

from app.db import Database
from app.migrate import upgrade
from app.models import Attempt, Dataset, Job, Metric, Rollup
from app.services import ingest, metrics, rollups
from app.storage import Storage


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    storage = Storage(tmp_path_factory.mktemp("rollups"))
    storage.prepare()
    upgrade(storage)
    database = Database(storage.database)
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


def new_job(session: Session) -> tuple[Job, Attempt]:
    dataset = session.exec(select(Dataset)).first() or Dataset(name="a", sha256="0", size=1)
    session.add(dataset)
    session.flush()
    job = Job(name="a", model="m", dataset_id=dataset.id or 0, attempt=1)
    session.add(job)
    session.flush()
    return job, new_attempt(session, job, 1)


def new_attempt(session: Session, job: Job, number: int) -> Attempt:
    attempt = Attempt(job_id=job.id or 0, number=number, claim_token="secret")
    session.add(attempt)
    session.flush()
    return attempt


def send(session: Session, job: Job, attempt: Attempt, rows: dict[int, tuple[float | None, float | None]]) -> None:
    """Steps in beats of uneven sizes."""
    drawn, waiting = random.Random(len(rows)), list(rows.items())
    while waiting:
        count = drawn.choice((1, 3, 40, 300, 700))
        now, waiting = waiting[:count], waiting[count:]
        head = enumerate(now, attempt.last_seq + 1)
        events = [{"seq": s, "kind": "step", "step": n, "loss": v[0], "grad_norm": v[1]} for s, (n, v) in head]
        ingest.take(session, job, attempt, events)


def curve(drawn: random.Random, steps: range) -> dict[int, tuple[float | None, float | None]]:
    """Values with ties, gaps among the steps and gaps among the values."""

    def value() -> float | None:
        return drawn.choice((None, 0.5, drawn.random(), drawn.random(), drawn.random()))

    return {step: (value(), value()) for step in steps if drawn.random() < 0.97}


Row = tuple[int, float | None, float | None]


def looked_at_each(rows: list[Row], max_points: int) -> list[int]:
    """The steps to keep, found without a roll-up."""
    if len(rows) <= max_points:
        return [row[0] for row in rows]
    curves = (1, 2) if max_points >= 4 else (1,)
    grid = rollups.grid_for(rows[0][0], rows[-1][0], max(1, max_points // (2 * len(curves))))
    buckets: dict[int, list[Row]] = {}
    for row in rows:
        buckets.setdefault((row[0] - grid.origin) // grid.width, []).append(row)
    kept: set[int] = set()
    for curve in curves:
        for bucket in buckets.values():
            known = [(row[curve] or 0.0, row[0]) for row in bucket if row[curve] is not None]
            known = known or [(0.0, bucket[0][0])]
            ends = (min, max) if max_points > 1 else (max,)
            kept |= {end(known, key=lambda one: one[0])[1] for end in ends}
    return sorted(kept)


def same(session: Session, job: Job, first: int, last: int, max_points: int) -> bool:
    query = select(Metric.step, Metric.loss, Metric.grad_norm).where(Metric.job_id == job.id)
    rows = session.exec(query.where(col(Metric.step).between(first, last)).order_by(col(Metric.step))).all()
    answer = metrics.read(session, job.id or 0, first, last, max_points)["step"]
    assert len(answer) <= max_points
    return bool(answer == looked_at_each(list(rows), max_points))


@pytest.mark.parametrize("seed", range(3))
def test_rollups_answer_as_a_look_at_each_step_does(session: Session, seed: int) -> None:
    drawn = random.Random(seed)
    job, attempt = new_job(session)
    send(session, job, attempt, curve(drawn, range(drawn.choice((0, 1, 17, 5000)), 10_000)))
    for max_points in (1, 2, 3, 4, 9, 40, 100, 2000):
        first = drawn.randrange(6000)
        assert same(session, job, first, drawn.randrange(first + 2500, 11_000), max_points), max_points
        assert same(session, job, 0, 10**9, max_points), max_points


@pytest.mark.parametrize("resume_step", [0, 16, 255, 4095, 4096])
def test_rollups_after_an_attempt_that_went_on_from_a_step(session: Session, resume_step: int) -> None:
    drawn = random.Random(resume_step)
    job, attempt = new_job(session)
    send(session, job, attempt, curve(drawn, range(1, 6000)))
    second = new_attempt(session, job, 2)
    ingest.supersede(session, job, 2, resume_step)
    assert same(session, job, 0, 10**9, 40)
    send(session, job, second, curve(drawn, range(resume_step + 1, 5000)))
    assert all(same(session, job, 0, 10**9, max_points) for max_points in (2, 40, 400))
    before = stored(session, job)
    rollups.build(session, job.id or 0, 0, 6000)
    assert stored(session, job) == before


def stored(session: Session, job: Job) -> list[tuple[object, ...]]:
    rows = session.exec(select(Rollup).where(Rollup.job_id == job.id))
    return sorted((row.curve, row.width, row.bucket, row.low_step, row.high_step, row.num_values) for row in rows)


def test_steps_that_arrive_late_find_their_place(session: Session) -> None:
    job, attempt = new_job(session)
    second = new_attempt(session, job, 2)
    send(session, job, second, dict.fromkeys(range(500, 1000), (1.0, 1.0)))
    late = [{"seq": step, "kind": "step", "step": step, "loss": -5.0 if step == 77 else 2.0} for step in range(1, 400)]
    ingest.take_late(session, job, attempt, late, up_to_step=300)
    assert same(session, job, 0, 10**9, 40)
    assert 77 in metrics.read(session, job.id or 0, None, None, 8)["step"]


def test_with_no_more_steps_than_asked_for_none_is_left_out(session: Session) -> None:
    job, attempt = new_job(session)
    send(session, job, attempt, {step: (float(step % 7), 1.0) for step in range(1, 601)})
    assert metrics.read(session, job.id or 0, None, None, 600)["step"] == list(range(1, 601))
    assert len(metrics.read(session, job.id or 0, None, None, 599)["step"]) < 600
