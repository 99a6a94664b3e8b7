"""Whether the web process lives, and whether it can do its work. Public, and silent about all else."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text

from app.db import DatabaseDep
from app.routes.params import DiskDep

router = APIRouter()


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
def readyz(database: DatabaseDep, disk: DiskDep) -> JSONResponse:
    """Ready as long as it can read; `disk` is there while new uploads and jobs find no room."""
    with database.read() as session:
        session.connection().execute(text("SELECT 1"))
    return JSONResponse({"status": "ready"} | ({"disk": "low"} if disk.warning() else {}))
