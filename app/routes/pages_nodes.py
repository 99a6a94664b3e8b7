"""Nodes as a page: lanes, instruments with their past, and the buttons that drain, take up again and forget."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.responses import Response

from app.db import Database, DatabaseDep
from app.models import Node
from app.routes import pages_data as data
from app.routes.pages_back import lead_back
from app.services import nodes
from app.templating import render, told

LOOPBACK = ("localhost", "127.0.0.1", "::1")

router = APIRouter(prefix="/nodes", include_in_schema=False, default_response_class=HTMLResponse)


def _views(session: Session) -> list[dict[str, Any]]:
    return [nodes.view(session, node) for node in nodes.every(session)]


@router.get("")
def list_nodes(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        context: dict[str, Any] = {"nodes": _views(session), "past": data.past_telemetry(session)}
        return render(request, "nodes/list.html", **_address(request), **context | data.shell(session))


def _address(request: Request) -> dict[str, Any]:
    """Under which other machines reach this one; an address of the loopback is good here alone."""
    url = request.base_url
    if is_loopback := (url.hostname or "") in LOOPBACK:
        url = url.replace(hostname="THIS-MACHINE")
    return {"server_url": str(url).rstrip("/"), "is_loopback": is_loopback}


@router.get("/_nodes")
def list_node_cards(request: Request, database: DatabaseDep) -> HTMLResponse:
    with database.read() as session:
        return render(request, "nodes/_nodes.html", nodes=_views(session), lanes=data.lanes(session))


def _drain(session: Session, node: Node) -> str:
    nodes.drain(session, node, True)
    return f"{node.name} finishes what it does and takes no more jobs."


def _undrain(session: Session, node: Node) -> str:
    nodes.drain(session, node, False)
    return f"{node.name} takes jobs again."


def _forget(session: Session, node: Node) -> str:
    nodes.forget(session, node)
    return f"{node.name} is gone from the list; it comes back when its worker does."


ACTIONS: dict[str, Callable[[Session, Node], str]] = {"drain": _drain, "undrain": _undrain, "forget": _forget}


def _act(database: Database, node_id: int, action: str) -> str:
    with database.write() as session:
        return ACTIONS[action](session, nodes.get(session, node_id))


def _add_action(action: str) -> None:
    @router.post(f"/{{node_id}}/_{action}", name=f"{action}_node_live", response_model=None)
    def act_live(database: DatabaseDep, node_id: int) -> Response:
        return told(_act(database, node_id, action))

    @router.post(f"/{{node_id}}/{action}", name=f"{action}_node", response_model=None)
    def act(database: DatabaseDep, node_id: int) -> Response:
        _act(database, node_id, action)
        return RedirectResponse("/nodes", 303)

    lead_back(router, f"/{{node_id}}/{action}", "/nodes")


for _name in ACTIONS:
    _add_action(_name)
