"""The forms of a dataset's page that have it checked anew: how the file is meant, and what it is compared with."""

from collections.abc import Callable

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from sqlmodel import Session

from app.analysis import Analysis
from app.conversations.containers.reading import Reading
from app.db import Database, DatabaseDep
from app.errors import Conflict, WrongInput, wrong_field
from app.models import Dataset
from app.routes.pages_back import FormRefused, lead_back
from app.services import datasets, rechecks

WAIT_S = 2.0

router = APIRouter(prefix="/datasets", include_in_schema=False)


@router.post("/{dataset_id}/reading")
async def read_as(request: Request, database: DatabaseDep, dataset_id: int) -> RedirectResponse:
    """Read the file as another shape, or with other names for its keys."""
    async with request.form() as sent:
        typed = {name: str(sent.get(name, "")) for name in ("shape", "fields")}
    try:
        reading = Reading.written(**typed)
        return await _again(request, database, dataset_id, lambda session, one: rechecks.read_as(session, one, reading))
    except (WrongInput, Conflict) as error:
        raise FormRefused(dataset_id, error, reading=typed, is_typed=True) from None


@router.post("/{dataset_id}/cancel")
async def cancel(request: Request, dataset_id: int) -> RedirectResponse:
    """Stop its check."""
    try:
        await request.app.state.analysis.cancel(dataset_id)
    except Conflict as error:
        raise FormRefused(dataset_id, error) from None
    return RedirectResponse(f"/datasets/{dataset_id}", 303)


@router.post("/{dataset_id}/compare")
async def compare(request: Request, database: DatabaseDep, dataset_id: int) -> RedirectResponse:
    """Look for questions of the chosen datasets in this one."""
    async with request.form() as sent:
        written = [str(one) for one in sent.getlist("datasets")]

    def begin(session: Session, one: Dataset) -> list[int]:
        rechecks.compare(session, one, _numbers(written))
        return [dataset_id]

    try:
        return await _again(request, database, dataset_id, begin)
    except (WrongInput, Conflict) as error:
        raise FormRefused(dataset_id, error) from None


def _numbers(written: list[str]) -> list[int]:
    if wrong := next((one for one in written if not (one.isascii() and one.isdigit() and len(one) < 16)), None):
        raise wrong_field("datasets", f"must be numbers of datasets; {wrong[:40]!r} is none")
    return [int(one) for one in written]


async def _again(
    request: Request, database: Database, dataset_id: int, begin: Callable[[Session, Dataset], list[int]]
) -> RedirectResponse:
    def store() -> list[int]:
        with database.write() as session:
            return begin(session, datasets.get(session, dataset_id))

    analysis: Analysis = request.app.state.analysis
    for one in await to_thread.run_sync(store):
        analysis.add(one)
    await analysis.wait(dataset_id, WAIT_S)
    return RedirectResponse(f"/datasets/{dataset_id}", 303)


for _name in ("reading", "cancel", "compare"):
    lead_back(router, f"/{{dataset_id}}/{_name}", "/datasets/{dataset_id}")
