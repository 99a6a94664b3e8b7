"""Nodes and their lanes: registered by workers, alive while they beat, drained, left and forgotten."""

import math
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.db import announce_work
from app.errors import Conflict, NotFound
from app.hub import iso
from app.models import HELD, Attempt, Job, Lane, Node
from app.services import attempts, clocks, events, guardian, ids, opening, waiting
from app.services.needs import is_silent
from app.services.registration import NewLane, NewNode
from app.versions import OWN, PACKAGE

BEAT_S = 2.0  # of an idle lane; one with a job beats twice as often


class OtherVersion(Conflict):
    code = "other_version"


class NameTaken(Conflict):
    code = "name_taken"


def queue_name(node: Node, lane: Lane) -> str:
    return f"lane.{node.name}.{lane.name}"


def register(
    session: Session, new: NewNode, skew_s: float | None = None, address: str | None = None
) -> tuple[Node, list[Lane]]:
    """Make or renew a node and the lanes named; raises `OtherVersion` or `NameTaken`.

    A job that such a lane still holds is taken by its next claim.
    """
    _check_version(new.name, new.versions)
    node = session.exec(select(Node).where(Node.name == new.name)).first()
    node = node or Node(id=ids.fresh(session, Node), name=new.name)
    _check_name(session, node, new)
    node.instance = new.instance or node.instance
    node.versions, node.last_seen_at, node.left_at = new.versions, utc_now(), None
    node.address, node.clock_skew_s = address or node.address, skew_s
    session.add(node)
    session.flush()
    lanes = [_register_lane(session, node, one) for one in new.lanes]
    announce(session, node)
    announce_work(session)
    return node, lanes


def _check_version(name: str, versions: dict[str, Any]) -> None:
    """A worker of another version speaks another protocol. One that runs from a bare source tree tells none."""
    theirs = versions.get(PACKAGE)
    if theirs and OWN and theirs != OWN:
        raise OtherVersion(
            f"The worker on {name} is version {theirs}, this control center is {OWN}: install the same on both."
        )


def _check_name(session: Session, node: Node, new: NewNode) -> None:
    """Two machines of one name would claim each other's jobs away."""
    other = node.instance and new.instance and node.instance != new.instance
    if other and any(is_online(lane) for lane in _lanes(session, node)):
        raise NameTaken(
            f"Another machine is online as {node.name} ({node.address}): give this worker a name of its own with"
            " --node-name."
        )


def _register_lane(session: Session, node: Node, new: NewLane) -> Lane:
    assert node.id is not None
    lane = session.exec(select(Lane).where(Lane.node_id == node.id, Lane.name == new.name)).first()
    is_new = lane is None
    lane = lane or Lane(id=ids.fresh(session, Lane), node_id=node.id, name=new.name)
    lane.kind, lane.labels = new.kind, new.labels
    lane.gpus = [one.model_dump() for one in new.gpus]
    lane.draining, lane.last_seen_at, lane.left_at = node.drain_asked, utc_now(), None
    lane.idle = is_new or held_job_id(session, lane) is None
    session.add(lane)
    session.flush()
    return lane


def get(session: Session, node_id: int) -> Node:
    node = session.get(Node, node_id)
    if node is None:
        raise NotFound(f"There is no node {node_id}.")
    return node


def get_lane(session: Session, node_id: int, name: str) -> Lane:
    lane = session.exec(select(Lane).where(Lane.node_id == node_id, Lane.name == name)).first()
    if lane is None:
        raise NotFound(f"There is no lane {name!r} on node {node_id}; register it first.")
    return lane


def beat(
    session: Session, lane: Lane, telemetry: dict[str, Any] | None, draining: bool, skew_s: float | None = None
) -> dict[str, Any]:
    """Note that the lane is alive, and what its machine's instruments show; what is asked of it."""
    node = get(session, lane.node_id)
    # Registered before this control center was updated: it must not go on in the old way.
    _check_version(node.name, node.versions)
    was_silent, was_draining = is_silent(lane), lane.draining
    lane.last_seen_at = node.last_seen_at = utc_now()
    lane.draining = draining or node.drain_asked
    node.clock_skew_s = clocks.believe(node.clock_skew_s, skew_s)
    session.add(node)
    if telemetry is not None:
        lane.telemetry = {name: value for name, value in telemetry.items() if _is_reading(value)}
        data = {"node": node.name, "lane": lane.name} | (lane.telemetry or {})
        job_id = held_job_id(session, lane)
        events.record(session, "telemetry", data, lane_id=lane.id, lane_job_id=job_id)
        if job_id is not None:
            guardian.watch(session, session.get_one(Job, job_id), data)
    session.add(lane)
    if was_silent or was_draining != lane.draining:
        announce(session, node)
        announce_work(session)
    return {"drain": node.drain_asked, "busy": not lane.idle}


def _is_reading(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def leave(session: Session, lane: Lane) -> None:
    """The lane's worker ended in good order; the node has left once its last lane has."""
    node = get(session, lane.node_id)
    lane.left_at, lane.idle = utc_now(), False
    session.add(lane)
    session.flush()
    if not any(is_online(one) for one in _lanes(session, node)):
        node.left_at = lane.left_at
        session.add(node)
    announce(session, node)


def drain(session: Session, node: Node, wanted: bool) -> None:
    """Let the node finish what it does and take no more, or take jobs again. It stays so until somebody undoes it."""
    node.drain_asked = wanted
    session.add(node)
    for lane in _lanes(session, node):
        lane.draining = wanted
        session.add(lane)
    session.flush()
    announce(session, node)
    announce_work(session)


def forget(session: Session, node: Node) -> None:
    """Remove a node that is gone; raises `Conflict` while it is there or holds a job."""
    lanes = _lanes(session, node)
    for lane in lanes:
        if is_online(lane):
            raise Conflict(f"{node.name} is online: stop its worker first.")
        if (job_id := held_job_id(session, lane)) is not None:
            raise Conflict(f"{node.name} still holds job {job_id}; it is taken back when its lease ends.")
    for table in (Job, Attempt):
        session.exec(update(table).where(col(table.lane_id).in_([lane.id for lane in lanes])).values(lane_id=None))
    # Its worker may come back and still call itself by these numbers.
    ids.retire(session, node)
    for lane in lanes:
        ids.retire(session, lane)
    session.delete(node)
    session.flush()
    events.record(session, "node", {"node": node.name, "id": node.id, "lanes": [], "removed": True})


def held_job_id(session: Session, lane: Lane) -> int | None:
    """The job the lane holds now."""
    return session.exec(select(Job.id).where(Job.lane_id == lane.id, col(Job.state).in_(HELD))).first()


def is_online(lane: Lane) -> bool:
    return lane.left_at is None and not is_silent(lane)


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
    node = get(session, node_id)
    _check_version(node.name, node.versions)
    if (again := attempts.claimed_before(session, lane, lease_s, key)) is not None:
        return again
    if lane.draining:
        # Idle all the same: it is woken once nobody drains it any more.
        lane.idle = True
        session.add(lane)
        return None
    return attempts.claim(session, lane, lease_s, key)


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
        "labels": lane.labels,
        "state": _state(lane),
        "online": is_online(lane),
        "draining": lane.draining,
        "job_id": held_job_id(session, lane),
        "telemetry": lane.telemetry,
        "last_seen_at": iso(lane.last_seen_at),
    }


def _state(lane: Lane) -> str:
    if lane.left_at is not None:
        return "left"
    return "silent" if is_silent(lane) else "draining" if lane.draining else "online"


def view(session: Session, node: Node) -> dict[str, Any]:
    """The node as the contract shows it: its lanes with their telemetry.

    Its state is `online`, `draining`, `silent` (nothing heard of it) or `left` (its worker ended in good order).
    """
    lanes = _lanes(session, node)
    if node.left_at is None:
        # A node that is there was started with other lanes than before.
        lanes = [lane for lane in lanes if lane.left_at is None]
    states = {_state(lane) for lane in lanes}
    return {
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "state": "left" if node.left_at else next((one for one in ("online", "draining") if one in states), "silent"),
        "draining": node.drain_asked,
        "versions": node.versions,
        "clock_skew_s": node.clock_skew_s,
        "warnings": clocks.warnings(node.clock_skew_s),
        "lanes": [lane_view(session, lane) for lane in lanes],
        "created_at": iso(node.created_at),
        "last_seen_at": iso(node.last_seen_at),
        "left_at": iso(node.left_at) if node.left_at else None,
    }


def every(session: Session) -> list[Node]:
    return list(session.exec(select(Node).order_by(col(Node.name))))


def page(session: Session, limit: int, after: int | None) -> list[Node]:
    """Nodes in the order in which they joined."""
    return list(session.exec(select(Node).where(col(Node.id) > (after or 0)).order_by(col(Node.id)).limit(limit)))
