"""Nodes and their lanes: registered by workers, alive while they beat."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.db import announce_work
from app.errors import NotFound
from app.hub import iso
from app.models import HELD, Job, Lane, Node
from app.services import attempts, events, opening, waiting
from app.services.needs import is_silent

BEAT_S = 1.0


class NewLane(BaseModel):
    name: str = Field(min_length=1, max_length=100, pattern=r"^[\w.-]+$")
    kind: str = "cpu"
    gpus: list[dict[str, Any]] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list, max_length=64)


class NewNode(BaseModel):
    """The body of `POST /api/worker/nodes`."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=200, pattern=r"^[\w.-]+$")
    versions: dict[str, Any] = Field(default_factory=dict)
    lanes: list[NewLane] = Field(min_length=1, max_length=64)


def queue_name(node: Node, lane: Lane) -> str:
    return f"lane.{node.name}.{lane.name}"


def register(session: Session, new: NewNode) -> tuple[Node, list[Lane]]:
    """Make or renew a node and the lanes named. A job that such a lane still holds is taken by its next claim."""
    node = session.exec(select(Node).where(Node.name == new.name)).first() or Node(name=new.name)
    node.versions, node.last_seen_at = new.versions, utc_now()
    session.add(node)
    session.flush()
    lanes = [_register_lane(session, node, one) for one in new.lanes]
    announce(session, node)
    announce_work(session)
    return node, lanes


def _register_lane(session: Session, node: Node, new: NewLane) -> Lane:
    assert node.id is not None
    lane = session.exec(select(Lane).where(Lane.node_id == node.id, Lane.name == new.name)).first()
    lane = lane or Lane(node_id=node.id, name=new.name)
    lane.kind, lane.gpus, lane.labels = new.kind, new.gpus, new.labels
    lane.draining, lane.last_seen_at = False, utc_now()
    lane.idle = lane.id is None or held_job_id(session, lane) is None
    session.add(lane)
    session.flush()
    return lane


def get_lane(session: Session, node_id: int, name: str) -> Lane:
    lane = session.exec(select(Lane).where(Lane.node_id == node_id, Lane.name == name)).first()
    if lane is None:
        raise NotFound(f"There is no lane {name!r} on node {node_id}; register it first.")
    return lane


def beat(session: Session, lane: Lane, telemetry: dict[str, Any] | None, draining: bool) -> None:
    """Note that the lane is alive, and what its machine's instruments show."""
    node = session.get(Node, lane.node_id)
    assert node is not None
    was_silent = is_silent(lane)
    lane.last_seen_at = node.last_seen_at = utc_now()
    lane.draining = draining
    session.add(node)
    if telemetry is not None:
        lane.telemetry = events.without_nan(telemetry)
        data = {"node": node.name, "lane": lane.name} | (lane.telemetry or {})
        events.record(session, "telemetry", data, lane_id=lane.id, lane_job_id=held_job_id(session, lane))
    session.add(lane)
    if was_silent:
        announce(session, node)
        announce_work(session)


def held_job_id(session: Session, lane: Lane) -> int | None:
    """The job the lane holds now."""
    return session.exec(select(Job.id).where(Job.lane_id == lane.id, col(Job.state).in_(HELD))).first()


def idle_lanes(session: Session) -> list[tuple[Lane, str]]:
    """Lanes that would take a job now, with the names of their queues."""
    alive = utc_now() - timedelta(seconds=3 * BEAT_S)
    query = (
        select(Lane, Node)
        .where(Lane.node_id == Node.id, col(Lane.idle).is_(True), col(Lane.draining).is_(False))
        .where(col(Lane.last_seen_at) >= alive)
    )
    return [(lane, queue_name(node, lane)) for lane, node in session.exec(query)]


def queues_to_wake(session: Session) -> list[str]:
    """Queues of idle lanes that fit a job which waits for nothing but a lane: one lane for each such job."""
    idle = {lane.id: (lane, queue) for lane, queue in idle_lanes(session)} if opening.is_open(session) else {}
    chosen = waiting.lanes_for_ready_jobs(session, [lane for lane, _ in idle.values()])
    return [idle[lane.id][1] for lane in chosen]


def claim(session: Session, node_id: int, name: str, lease_s: float, key: str | None) -> dict[str, Any] | None:
    lane = get_lane(session, node_id, name)
    return attempts.claim(session, lane, lease_s, key) if not lane.draining else None


def announce(session: Session, node: Node) -> None:
    events.record(
        session,
        "node",
        {"node": node.name, "id": node.id, "lanes": [lane_view(session, x) for x in _lanes(session, node)]},
    )


def _lanes(session: Session, node: Node) -> list[Lane]:
    return list(session.exec(select(Lane).where(Lane.node_id == node.id).order_by(col(Lane.name))))


def lane_view(session: Session, lane: Lane) -> dict[str, Any]:
    return {
        "id": lane.id,
        "name": lane.name,
        "kind": lane.kind,
        "gpus": lane.gpus,
        "online": not is_silent(lane),
        "draining": lane.draining,
        "job_id": held_job_id(session, lane),
        "telemetry": lane.telemetry,
        "last_seen_at": iso(lane.last_seen_at),
    }


def view(session: Session, node: Node) -> dict[str, Any]:
    """The node as the contract shows it: its lanes with their telemetry."""
    return {
        "id": node.id,
        "name": node.name,
        "versions": node.versions,
        "lanes": [lane_view(session, lane) for lane in _lanes(session, node)],
        "created_at": iso(node.created_at),
        "last_seen_at": iso(node.last_seen_at),
    }


def every(session: Session) -> list[Node]:
    return list(session.exec(select(Node).order_by(col(Node.name))))
