"""The workers' API: register, claim, beat, files, end. Every call for a job carries its attempt and claim token."""

import time
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlmodel import Session

from app.config import Settings
from app.db import Database, DatabaseDep
from app.errors import Conflict
from app.models import Attempt, Job
from app.routes.params import StorageDep
from app.services import attempts, checkpoints, nodes
from app.services.registration import Clock, NewNode
from app.storage import Received, Storage, existing
from app.upload import body_chunks

router = APIRouter(prefix="/api/worker")

FILE_LIMIT = 1 << 40


class NodeBeat(BaseModel):
    lane: str
    telemetry: dict[str, Any] | None = None
    draining: bool = False
    time: Clock | None = None


class LeaveBody(BaseModel):
    lane: str


class ClaimBody(BaseModel):
    node_id: int
    lane: str
    key: str | None = Field(None, max_length=100)


class JobBeat(BaseModel):
    events: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)
    earlier: bool = False
    heard: int = Field(0, ge=0, lt=2**53)


class EndBody(BaseModel):
    outcome: Literal["succeeded", "cancelled", "paused", "released", "failed", "crashed"]
    error: dict[str, Any] | None = None
    step: int | None = None
    adapter: dict[str, Any] | None = None
    exit: dict[str, Any] | None = None
    log: list[str] | None = Field(None, max_length=1000)


class Pass(BaseModel):
    """The attempt and the claim token a worker shows."""

    job_id: int
    attempt: int
    token: str


def _pass(
    job_id: int,
    attempt: Annotated[int, Header(alias="X-Attempt")],
    token: Annotated[str, Header(alias="X-Claim-Token")],
) -> Pass:
    return Pass(job_id=job_id, attempt=attempt, token=token)


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


PassDep = Annotated[Pass, Depends(_pass)]
SettingsDep = Annotated[Settings, Depends(_settings)]


@router.post("/nodes")
def register_node(request: Request, database: DatabaseDep, settings: SettingsDep, body: NewNode) -> dict[str, Any]:
    skew_s, address = _skew(body.time), request.client.host if request.client else None
    with database.write() as session:
        node, lanes = nodes.register(session, body, skew_s, address)
        shown = [{"id": lane.id, "name": lane.name, "queue": nodes.queue_name(node, lane)} for lane in lanes]
        return {"id": node.id, "lanes": shown, "lease_s": settings.lease_s, "beat_s": nodes.BEAT_S}


@router.post("/nodes/{node_id}/beat")
def beat_node(database: DatabaseDep, node_id: int, body: NodeBeat) -> dict[str, Any]:
    """`drain`: a person wants the node to take no more jobs; `busy`: the lane holds one, so its beats are wanted."""
    skew_s = _skew(body.time)
    with database.write() as session:
        lane = nodes.get_lane(session, node_id, body.lane)
        return nodes.beat(session, lane, body.telemetry, body.draining, skew_s)


def _skew(told: float | None) -> float | None:
    """The worker's clock less ours; measured before waiting for the writer's turn."""
    return None if told is None else told - time.time()


@router.post("/nodes/{node_id}/leave")
def leave_node(database: DatabaseDep, node_id: int, body: LeaveBody) -> dict[str, Any]:
    """The last word of a lane whose worker ends in good order."""
    with database.write() as session:
        nodes.leave(session, nodes.get_lane(session, node_id, body.lane))
        return {}


@router.post("/claim", response_model=None)
def claim(database: DatabaseDep, settings: SettingsDep, body: ClaimBody) -> dict[str, Any] | Response:
    """The best job the lane can train, or 204."""
    with database.write() as session:
        claimed = nodes.claim(session, body.node_id, body.lane, settings.lease_s, body.key)
    return claimed or Response(status_code=204)


@router.post("/jobs/{job_id}/beat")
def beat_job(database: DatabaseDep, settings: SettingsDep, shown: PassDep, body: JobBeat) -> dict[str, Any]:
    """Events in, commands out; 409 where the attempt was fenced."""
    with database.write() as session:
        job, attempt = attempts.get_attempt(session, shown.job_id, shown.attempt, shown.token)
        return attempts.beat(session, job, attempt, body.events, settings.lease_s, body.earlier, body.heard)


@router.post("/jobs/{job_id}/end")
def end_job(database: DatabaseDep, shown: PassDep, body: EndBody) -> dict[str, Any]:
    with database.write() as session:
        job, attempt = attempts.get_attempt(session, shown.job_id, shown.attempt, shown.token)
        attempts.end(session, job, attempt, body.model_dump())
        session.flush()
        return attempts.ended_view(session, job)


def held(session: Session, shown: Pass) -> tuple[Job, Attempt]:
    """The job, where the worker that asks holds it; raises `Fenced` otherwise."""
    return attempts.get_held(session, shown.job_id, shown.attempt, shown.token)


@router.put("/jobs/{job_id}/files/{path:path}")
async def put_file(
    request: Request,
    database: DatabaseDep,
    storage: StorageDep,
    shown: PassDep,
    path: str,
    sha256: Annotated[str | None, Header(alias="X-Sha256")] = None,
) -> dict[str, Any]:
    """A file of the attempt: a part of a checkpoint or of the adapter."""
    await to_thread.run_sync(_check_pass, database, shown)
    received = await storage.receive(body_chunks(request, FILE_LIMIT), FILE_LIMIT)
    await to_thread.run_sync(_store, database, storage, shown, path, received, sha256)
    return {"path": path, "size": received.size, "sha256": received.sha256}


def _check_pass(database: Database, shown: Pass) -> None:
    with database.read() as session:
        held(session, shown)


def _store(
    database: Database, storage: Storage, shown: Pass, path: str, received: Received, sha256: str | None
) -> None:
    try:
        if sha256 is not None and sha256.lower() != received.sha256:
            raise Conflict(f"{path} arrived with sha256 {received.sha256}, not {sha256}; send it again.")
        with database.write() as session:
            job, attempt = held(session, shown)
            checkpoints.store(session, storage, job, attempt.number, path, received)
    finally:
        received.drop()


@router.get("/jobs/{job_id}/files/{path:path}")
def get_file(
    database: DatabaseDep, storage: StorageDep, shown: PassDep, path: str, attempt: int | None = None
) -> FileResponse:
    """A file of this or an earlier attempt of the job, for going on from its checkpoint."""
    with database.read() as session:
        held(session, shown)
        number = shown.attempt if attempt is None else attempt
        place = checkpoints.stored_path(session, storage, shown.job_id, number, path)
    return FileResponse(existing(place), media_type="application/octet-stream")
