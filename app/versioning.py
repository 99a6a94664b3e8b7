"""Makes the file of a new version of a dataset in a child process, and its row."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread
from pydantic import Field
from starlette.datastructures import State

from app.analysis import Analysis
from app.children import output_of
from app.conversations.rewriting import Asked
from app.db import Database
from app.errors import Conflict
from app.models import Dataset
from app.schemas import Body
from app.services import datasets, versions
from app.space import Disk
from app.storage import PART, Storage

PLAN = "plan"
SMALL = 4 * 2**20
SMALL_WAIT_S = 5.0


class NewVersion(Body):
    """Kinds of findings whose lines are left out, and kinds that are repaired."""

    exclude: list[str] = Field(default_factory=list, max_length=100)
    repair: list[str] = Field(default_factory=list, max_length=100)
    name: str | None = Field(None, max_length=200)


class Made(NamedTuple):
    """A version; one that is known was there already."""

    id: int
    size: int
    is_known: bool


async def begin(state: State, dataset_id: int, new: NewVersion) -> Made:
    """Make a version and let it be checked; a small one is checked when this returns. `state` is the app's."""
    asked = Asked(frozenset(new.exclude), frozenset(new.repair))
    made = await make(state.database, state.storage, state.disk, dataset_id, asked, new.name or "")
    analysis: Analysis = state.analysis
    if not made.is_known:
        analysis.add(made.id)
    if made.size <= SMALL:
        await analysis.wait(made.id, SMALL_WAIT_S)
    return made


async def make(database: Database, storage: Storage, disk: Disk, dataset_id: int, asked: Asked, name: str) -> Made:
    """Raises `Conflict` where it cannot be written; whatever breaks off leaves nothing."""
    with TemporaryDirectory(dir=storage.incoming, prefix=PART) as folder:
        room = Path(folder)
        begun = await to_thread.run_sync(_prepare, database, storage, disk, dataset_id, asked, room)
        if isinstance(begun, Made):
            return begun
        words = ("-m", "app.rewrite", str(begun), str(room / PLAN), folder, msgspec.json.encode(asked).decode())
        told = await output_of(*words)
        if told is None:
            raise Conflict("The version could not be written; the log has the reason. Nothing was changed.")
        return await to_thread.run_sync(_store, database, storage, dataset_id, asked, name, json.loads(told))


def _prepare(
    database: Database, storage: Storage, disk: Disk, dataset_id: int, asked: Asked, room: Path
) -> Made | Path:
    """The dataset that is already what is asked for, or the file with the lines, the plan being in `room` then."""
    with database.read() as session:
        parent = versions.parent_for(session, dataset_id, asked)
        lines = datasets.lines_path(storage, parent)
        known = parent if versions.changes_nothing(parent, asked) else versions.made_before(session, parent, asked)
        if known is not None:
            return _made(known, True)
        disk.require(lines.stat().st_size, "this version")
        with (room / PLAN).open("wb") as file:
            file.writelines(versions.plan(session, parent, asked))
        return lines


def _store(
    database: Database, storage: Storage, dataset_id: int, asked: Asked, name: str, told: dict[str, Any]
) -> Made:
    with database.write() as session:
        return _made(*versions.store(session, storage, dataset_id, asked, name, told))


def _made(dataset: Dataset, is_known: bool) -> Made:
    assert dataset.id is not None
    return Made(dataset.id, dataset.size, is_known)
