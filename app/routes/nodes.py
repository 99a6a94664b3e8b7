"""Nodes by REST: what they are, what they showed, drain and forget."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.db import Database, DatabaseDep
from app.routes.params import Cursor, Limit, page_of
from app.services import node_history, nodes

router = APIRouter(prefix="/api/nodes")

Minutes = Annotated[float, Query(gt=0, le=7 * 24 * 60, description="how far to look back")]
MaxPoints = Annotated[int, Query(ge=1, le=10_000, description="at most so many entries a lane")]


@router.get("")
def list_nodes(database: DatabaseDep, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
    """Every machine that ever joined, with its lanes and what their instruments show."""
    with database.read() as session:
        rows = nodes.page(session, limit, after)
        return page_of(rows, [nodes.view(session, row) for row in rows], limit)


@router.get("/{node_id}")
def show_node(database: DatabaseDep, node_id: int) -> dict[str, Any]:
    with database.read() as session:
        return nodes.view(session, nodes.get(session, node_id))


@router.get("/{node_id}/telemetry")
def show_telemetry(
    database: DatabaseDep, node_id: int, minutes: Minutes = 60, max_points: MaxPoints = 500
) -> dict[str, Any]:
    """What its instruments showed, in columns for each lane."""
    with database.read() as session:
        return node_history.telemetry(session, nodes.get(session, node_id), minutes, max_points)


@router.post("/{node_id}/drain")
def drain_node(database: DatabaseDep, node_id: int) -> dict[str, Any]:
    """Finish the jobs in flight and take no more."""
    return _drain(database, node_id, True)


@router.post("/{node_id}/undrain")
def undrain_node(database: DatabaseDep, node_id: int) -> dict[str, Any]:
    """Take jobs again."""
    return _drain(database, node_id, False)


def _drain(database: Database, node_id: int, wanted: bool) -> dict[str, Any]:
    with database.write() as session:
        node = nodes.get(session, node_id)
        nodes.drain(session, node, wanted)
        return nodes.view(session, node)


@router.delete("/{node_id}", status_code=204)
def forget_node(database: DatabaseDep, node_id: int) -> Response:
    """Forget a node that left or fell silent and holds nothing."""
    with database.write() as session:
        nodes.forget(session, nodes.get(session, node_id))
    return Response(status_code=204)
