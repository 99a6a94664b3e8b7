"""Roll-ups of the curves: for buckets of 16, 256 and 4096 steps the steps where a curve is least and greatest.

Written in the transaction that writes the steps, so that a chart never reads more than a few thousand rows.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import insert
from sqlmodel import Session, col, delete, select

from app.models import Metric, Rollup

CURVES = ("loss", "grad_norm")
WIDTHS = (16, 256, 4096)


class Bucket(NamedTuple):
    """Some neighbouring steps. The least and the greatest are None where no step has a value."""

    low: float | None
    low_step: int
    high: float | None
    high_step: int
    total: float
    num_values: int


class Grid(NamedTuple):
    """Buckets of `width` steps from `origin` on; both are multiples of `base`, the width of what is read for them."""

    origin: int
    width: int
    base: int


def single(step: int, value: float | None) -> Bucket:
    return Bucket(value, step, value, step, value or 0.0, int(value is not None))


def merged(parts: Iterable[Bucket], width: int, origin: int = 0) -> dict[int, Bucket]:
    """Wider buckets by their number; the parts come in the order of their steps."""
    groups = groupby(parts, key=lambda part: (part.low_step - origin) // width)
    return {number: _whole(list(group)) for number, group in groups}


def _whole(parts: list[Bucket]) -> Bucket:
    """Neighbours as one; of equal values the earlier stays."""
    known = [part for part in parts if part.low is not None]
    if not known:
        return parts[0]
    least, greatest = min(known, key=itemgetter(0)), max(known, key=itemgetter(2))
    total, num = sum(part.total for part in known), sum(part.num_values for part in known)
    return Bucket(least.low, least.low_step, greatest.high, greatest.high_step, total, num)


def build(session: Session, job_id: int, first: int, last: int) -> None:
    """Build all buckets that hold one of the steps from `first` to `last`, each level from the one below it."""
    below = 1
    for width in WIDTHS:
        begin, beyond = first // width * width, (last // width + 1) * width
        for curve in CURVES:
            parts = _parts(session, job_id, curve, below, begin, beyond)
            rows = [
                {"job_id": job_id, "curve": curve, "width": width, "bucket": number, **bucket._asdict()}
                for number, bucket in merged(parts, width).items()
            ]
            if rows:
                session.connection().execute(insert(Rollup).prefix_with("OR REPLACE"), rows)
        below = width


def cut(session: Session, job_id: int, step: int) -> None:
    """Called once the steps beyond this one are gone: forget their buckets, build the last one that stays again."""
    beyond = (col(Rollup.bucket) + 1) * col(Rollup.width) > step + 1
    session.exec(delete(Rollup).where(col(Rollup.job_id) == job_id, beyond))
    build(session, job_id, step, step)


def _parts(session: Session, job_id: int, curve: str, width: int, begin: int, beyond: int) -> list[Bucket]:
    """The buckets of one level, or single steps, in [begin, beyond) (multiples of the width), in their order."""
    if width == 1:
        query = select(Metric.step, getattr(Metric, curve)).where(
            Metric.job_id == job_id, col(Metric.step) >= begin, col(Metric.step) < beyond
        )
        return [single(step, value) for step, value in _execute(session, query.order_by(col(Metric.step)))]
    stored = (
        select(*[getattr(Rollup, name) for name in Bucket._fields])
        .where(Rollup.job_id == job_id, Rollup.curve == curve, Rollup.width == width)
        .where(col(Rollup.bucket) >= begin // width, col(Rollup.bucket) < beyond // width)
        .order_by(col(Rollup.bucket))
    )
    return [Bucket._make(row) for row in _execute(session, stored)]


def _execute(session: Session, query: Any) -> Any:
    """The rows as they are: the ORM would take as long over them as SQLite does."""
    return session.connection().execute(query)


def grid_for(first: int, last: int, num_buckets: int) -> Grid:
    """At most so many buckets over the steps from `first` to `last`, from the widest level that is fine enough."""
    span = last - first + 1
    base = max((width for width in WIDTHS if 2 * width * num_buckets <= span), default=1)
    origin = first // base * base
    return Grid(origin, -(-(last + 1 - origin) // (num_buckets * base)) * base, base)


def read(session: Session, job_id: int, curve: str, grid: Grid, first: int, last: int) -> list[Bucket]:
    """The buckets of the grid over the steps from `first` to `last`; what the stored ones do not fill comes by step."""
    begin, beyond = -(-first // grid.base) * grid.base, (last + 1) // grid.base * grid.base
    if begin >= beyond:
        parts = _parts(session, job_id, curve, 1, first, last + 1)
    else:
        parts = _parts(session, job_id, curve, 1, first, begin) if first < begin else []
        parts += _parts(session, job_id, curve, grid.base, begin, beyond)
        parts += _parts(session, job_id, curve, 1, beyond, last + 1) if beyond <= last else []
    return list(merged(parts, grid.width, grid.origin).values())


def extremes(session: Session, job_id: int, first: int, last: int, max_points: int) -> set[int]:
    """At most `max_points` steps: of each bucket those where a curve is least and greatest.

    Where there is room for less than one bucket of all curves, the first curve decides.
    """
    curves: Sequence[str] = CURVES if max_points >= 2 * len(CURVES) else CURVES[:1]
    grid = grid_for(first, last, max(1, max_points // (2 * len(curves))))
    found = [one for curve in curves for one in read(session, job_id, curve, grid, first, last)]
    return {step for one in found for step in ((one.low_step, one.high_step) if max_points > 1 else (one.high_step,))}


def means(session: Session, job_ids: Sequence[int], width: int) -> list[tuple[int, float]]:
    """(job, mean loss of a bucket) along the buckets of this width, for those with a loss."""
    query = select(Rollup.job_id, Rollup.total, Rollup.num_values).where(
        col(Rollup.job_id).in_(job_ids), Rollup.curve == "loss", Rollup.width == width, Rollup.num_values > 0
    )
    rows = _execute(session, query.order_by(col(Rollup.job_id), col(Rollup.bucket)))
    return [(number, total / num) for number, total, num in rows]


def bounds(session: Session, job_id: int, from_step: int | None, to_step: int | None) -> tuple[int, int] | None:
    """The first and the last step there is in a range; None where there is none."""
    query = select(Metric.step).where(Metric.job_id == job_id)
    if from_step is not None:
        query = query.where(col(Metric.step) >= from_step)
    if to_step is not None:
        query = query.where(col(Metric.step) <= to_step)
    # Two queries: SQLite goes straight to an end of the key only where it looks for one alone.
    first = session.exec(query.order_by(col(Metric.step)).limit(1)).first()
    last = session.exec(query.order_by(col(Metric.step).desc()).limit(1)).first()
    return None if first is None or last is None else (first, last)
