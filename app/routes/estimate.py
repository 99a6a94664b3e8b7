"""What a job would take, asked before it is made."""

from typing import Annotated, Any

from fastapi import APIRouter, Body

from app.db import DatabaseDep
from app.routes.params import ModelsDep
from app.services import estimates, jobs

router = APIRouter(prefix="/api/estimate")


@router.post("")
def estimate_job(database: DatabaseDep, models: ModelsDep, body: Annotated[Any, Body()] = None) -> dict[str, Any]:
    """Takes the body of `POST /api/jobs`, checked as there; makes nothing."""
    new, config = jobs.read_new_job(body, models)
    with database.read() as session:
        return estimates.of_new_job(session, models, new, config)
