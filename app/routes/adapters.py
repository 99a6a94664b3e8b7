"""Adapters by REST."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.db import DatabaseDep
from app.routes.params import Cursor, Limit, StorageDep, page_of
from app.services import adapters
from app.storage import existing, plain_name

router = APIRouter(prefix="/api")


@router.get("/adapters")
def list_adapters(
    database: DatabaseDep, limit: Limit = 50, after: Cursor = None, trashed: bool = False
) -> dict[str, Any]:
    """Adapters, newest first."""
    with database.read() as session:
        rows = adapters.page(session, limit, after, trashed)
        return page_of(rows, [adapters.view(row) for row in rows], limit)


@router.get("/adapters/{adapter_id}")
def show_adapter(database: DatabaseDep, adapter_id: int) -> dict[str, Any]:
    with database.read() as session:
        return adapters.view(adapters.get(session, adapter_id))


@router.get("/adapters/{adapter_id}/download")
def download_adapter(database: DatabaseDep, storage: StorageDep, adapter_id: int) -> StreamingResponse:
    """A zip with weights, configuration, manifest and README at its top."""
    with database.read() as session:
        adapter = adapters.get(session, adapter_id)
    place = adapters.folder(storage, adapter)
    for one in adapter.files:
        existing(place / one["path"])
    name = plain_name(adapter.name, "adapter").encode("ascii", "ignore").decode().replace('"', "").replace(" ", "-")
    headers = {"Content-Disposition": f'attachment; filename="{name or "adapter"}-{adapter.id}.zip"'}
    return StreamingResponse(adapters.zipped(place, adapter.files), media_type="application/zip", headers=headers)
