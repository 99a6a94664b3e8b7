"""The clocks of nodes, held against ours. Leases never ask them; the times of events are put right by them."""

from datetime import timedelta

from sqlmodel import Session

from app.models import Lane, Node

CORRECTED_FROM_S = 2.0
WARNED_FROM_S = 5.0


def believe(known: float | None, measured: float | None) -> float | None:
    """The skew (a node's clock less ours, in seconds) after one more measurement.

    A message that was held up on its way makes a clock look late, never early: a lower figure is believed slowly.
    """
    if measured is None or known is None:
        return known if measured is None else measured
    return measured if measured > known else known + (measured - known) / 8


def correction(session: Session, lane_id: int | None) -> timedelta:
    """What to take off the times that a lane's node tells."""
    lane = session.get(Lane, lane_id) if lane_id is not None else None
    node = session.get(Node, lane.node_id) if lane else None
    skew = node.clock_skew_s if node else None
    return timedelta(seconds=skew) if skew is not None and abs(skew) > CORRECTED_FROM_S else timedelta()


def warnings(skew_s: float | None) -> list[str]:
    """What people should know about a node's clock, in sentences."""
    if skew_s is None or abs(skew_s) <= WARNED_FROM_S:
        return []
    way = "ahead of" if skew_s > 0 else "behind"
    return [f"Its clock is {abs(skew_s):,.1f} s {way} the control center's; set it, by NTP for instance."]
