"""What a node's instruments showed: columns, thinned so that every peak stays."""

from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from app.columns import utc_now
from app.hub import iso
from app.models import Event, Lane, Node
from app.services import metrics

EXTREMES = ("gpu_util", "vram_used", "temperature", "cpu_util", "ram_used")


def telemetry(session: Session, node: Node, minutes: float, max_points: int) -> dict[str, Any]:
    """Columns for each lane, at most `max_points` entries long; they reach back as far as events are kept."""
    since = utc_now() - timedelta(minutes=minutes)
    lanes = session.exec(select(Lane).where(Lane.node_id == node.id).order_by(col(Lane.name)))
    return {
        "lanes": [{"id": lane.id, "lane": lane.name} | _columns(session, lane, since, max_points) for lane in lanes]
    }


def _columns(session: Session, lane: Lane, since: datetime, max_points: int) -> dict[str, list[Any]]:
    query = select(Event.at, Event.data).where(Event.lane_id == lane.id, Event.kind == "telemetry", Event.at >= since)
    found = session.exec(query.order_by(col(Event.at)))
    rows = [(iso(at), *(data.get(name) for name in metrics.TELEMETRY)) for at, data in found]
    # A column that is empty on this machine has no peaks to keep.
    shown = [1 + metrics.TELEMETRY.index(name) for name in EXTREMES]
    shown = [column for column in shown if any(row[column] is not None for row in rows)] or shown[-1:]
    kept = [rows[i] for i in metrics.thin(rows, shown, max_points)]
    return {name: [row[i] for row in kept] for i, name in enumerate(("at", *metrics.TELEMETRY))}
