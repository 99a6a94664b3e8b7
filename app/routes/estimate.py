"""What a job would take, asked before it is made."""

from typing import Any

from fastapi import APIRouter

from app.db import DatabaseDep
from app.routes.params import JsonBody, ModelsDep
from app.services import estimates, jobs

router = APIRouter(prefix="/api/estimate")


@router.post("")
def estimate_job(database: DatabaseDep, models: ModelsDep, body: JsonBody) -> dict[str, Any]:
    """Takes the body of `POST /api/jobs`, checked as there; makes nothing."""
    with database.read() as session:
        new, config = jobs.read_new_job(session, body, models)
        return estimates.of_new_job(session, models, new, config)
