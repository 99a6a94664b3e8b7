"""Records by REST: the search among those of a dataset, and the pictures in one of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from app.db import DatabaseDep
from app.routes.params import Limit, StorageDep
from app.services import datasets, records, search
from app.storage import existing

router = APIRouter(prefix="/api/datasets")
Text = Annotated[str, Query(max_length=200)]
# The bytes come from a file that anybody may have made: shown alone, they may do nothing.
PICTURE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
    "Content-Disposition": "inline",
}


@router.get("/{dataset_id}/search")
def search_records(
    database: DatabaseDep,
    storage: StorageDep,
    dataset_id: int,
    q: Text = "",
    kind: str | None = None,
    severity: str | None = None,
    limit: Limit = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> dict[str, Any]:
    """Records that hold a text, and a finding of that kind or severity. A page may have few hits and still a `next`:
    a request reads for about a second at most."""
    datasets.require_known(kind, severity)
    with database.read() as session:
        path = existing(datasets.lines_path(storage, datasets.get(session, dataset_id)))
        found, behind = search.page(session, path, dataset_id, search.Wanted(q, kind, severity), after, limit)
    return {"items": found, "next": behind}


@router.get("/{dataset_id}/records/{line}/images/{number}", response_class=Response)
def show_picture(database: DatabaseDep, storage: StorageDep, dataset_id: int, line: int, number: int) -> Response:
    """The bytes of one image of a record, counted from 0."""
    with database.read() as session:
        path = existing(datasets.lines_path(storage, datasets.get(session, dataset_id)))
    data, kind = records.picture(path, line, max(number, 0))
    return Response(data, media_type=kind, headers=PICTURE_HEADERS)
