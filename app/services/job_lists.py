"""What the lines of a list of jobs show beside the jobs, in a handful of queries whatever its length."""

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.models import Event, Job, Metric
from app.services import rollups

NUM_CURVE_POINTS = 48


def best_losses(session: Session, ids: Sequence[int]) -> dict[int, float]:
    """The least evaluation loss of each job that has one."""
    loss = col(Event.data)["loss"].as_float()
    query = select(Event.job_id, func.min(loss)).where(col(Event.job_id).in_(ids), Event.kind == "eval")
    query = query.where(col(Event.superseded).is_(False)).group_by(col(Event.job_id))
    return {number: least for number, least in session.exec(query) if number is not None and least is not None}


def small_curves(session: Session, rows: Sequence[Job]) -> dict[int, list[float]]:
    """A few means of the loss along each job, from the narrowest roll-up that holds few enough buckets."""
    by_width: dict[int, list[int]] = {}
    for job in rows:
        fitting = [width for width in (1, *rollups.WIDTHS) if job.step <= 2 * NUM_CURVE_POINTS * width]
        by_width.setdefault((fitting or rollups.WIDTHS)[0 if fitting else -1], []).append(job.id or 0)
    points: dict[int, list[float]] = {}
    for width, ids in by_width.items():
        for number, mean in rollups.means(session, ids, width) if width > 1 else _losses(session, ids):
            points.setdefault(number, []).append(mean)
    return {number: _fewer(found) for number, found in points.items()}


def _losses(session: Session, ids: list[int]) -> list[tuple[int, float]]:
    query = select(Metric.job_id, Metric.loss).where(col(Metric.job_id).in_(ids), col(Metric.loss).is_not(None))
    found = session.exec(query.order_by(col(Metric.job_id), col(Metric.step)))
    return [(number, loss) for number, loss in found if loss is not None]


def _fewer(values: list[float]) -> list[float]:
    """Means of neighbours, at most NUM_CURVE_POINTS."""
    size = -(-len(values) // NUM_CURVE_POINTS) or 1
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    return [sum(group) / len(group) for group in groups]
