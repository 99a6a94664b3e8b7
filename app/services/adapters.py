"""Adapters: registered when their job succeeds, shown with their manifest, downloaded as a zip."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from sqlmodel import Session, col, select

from app.errors import NotFound, WrongInput
from app.hub import iso
from app.models import Adapter, Job
from app.services import checkpoints, ids
from app.services.trashed import shown
from app.storage import Storage

FILES = ("adapter_model.safetensors", "adapter_config.json", "manifest.json", "README.md")
FOLDER = "adapter"


def register(session: Session, job: Job, attempt: int, report: dict[str, Any]) -> Adapter:
    """Make the adapter's row, once all its files are here with their hashes; raises `WrongInput` otherwise."""
    files = [checkpoints.check_file(one) for one in report.get("files") or []]
    names = {one["path"] for one in files}
    if missing := [name for name in FILES if name not in names]:
        raise WrongInput(f"The adapter lacks {', '.join(missing)}.")
    stored = [one | {"path": f"{FOLDER}/{one['path']}"} for one in files]
    assert job.id is not None
    if not checkpoints.are_stored(session, job.id, attempt, stored):
        raise WrongInput("Not all files of the adapter have arrived with their hashes; put them again.")
    adapter = Adapter(
        id=ids.fresh(session, Adapter),
        name=str(report.get("name") or job.name),
        job_id=job.id,
        attempt=attempt,
        model=job.model,
        step=int(report.get("step") or job.step),
        size=sum(one["size"] for one in files),
        files=files,
        manifest=report.get("manifest") or {},
    )
    session.add(adapter)
    session.flush()
    return adapter


def folder(storage: Storage, adapter: Adapter) -> Path:
    return storage.attempt(adapter.job_id, adapter.attempt) / FOLDER


def file(storage: Storage, adapter: Adapter, name: str) -> Path:
    """Where one of its files lies; raises `NotFound` for a name it has none by."""
    if name not in {one["path"] for one in adapter.files}:
        raise NotFound(f"Adapter {adapter.id} has no file {name!r}.")
    return folder(storage, adapter) / name


def get(session: Session, adapter_id: int) -> Adapter:
    adapter = session.get(Adapter, adapter_id)
    if adapter is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
    return adapter


def page(session: Session, limit: int, after: int | None, trashed: bool = False) -> list[Adapter]:
    """Adapters, newest first; those in the trash, or all others."""
    query = select(Adapter).where(shown(Adapter, trashed)).order_by(col(Adapter.id).desc()).limit(limit)
    return list(session.exec(query.where(col(Adapter.id) < after) if after is not None else query))


def view(adapter: Adapter) -> dict[str, Any]:
    """The adapter as the contract shows it."""
    return {
        "id": adapter.id,
        "name": adapter.name,
        "job_id": adapter.job_id,
        "model": adapter.model,
        "step": adapter.step,
        "size": adapter.size,
        "files": adapter.files,
        "manifest": adapter.manifest,
        "created_at": iso(adapter.created_at),
        "trashed_at": iso(adapter.trashed_at),
    }


class _Sink:
    """A file object that hands on what a zip writer gives it, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.position = 0

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        self.position += len(data)
        return len(data)

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        data, self.pieces = b"".join(self.pieces), []
        return data


def zipped(place: Path, files: list[dict[str, Any]]) -> Iterator[bytes]:
    """The files as a stream of zip bytes, stored (weights do not compress), in constant memory."""
    sink = _Sink()
    with zipfile.ZipFile(cast(BinaryIO, sink), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for one in files:
            path = place / one["path"]
            info = zipfile.ZipInfo.from_file(path, one["path"])
            info.external_attr = 0o644 << 16
            with (
                archive.open(info, "w", force_zip64=os.path.getsize(path) > 2**31 - 1) as target,
                path.open("rb") as source,
            ):
                while chunk := source.read(1 << 20):
                    target.write(chunk)
                    yield sink.take()
        yield sink.take()
    yield sink.take()
