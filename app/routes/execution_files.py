"""What a worker fetches before it trains: datasets, the adapter to go on from, the base model. All take Range."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from sqlmodel import Session

from app.db import Database, DatabaseDep
from app.errors import NotFound
from app.routes.execution import Pass, PassDep, held
from app.routes.params import ModelsDep, StorageDep
from app.schemas import TINY_MODEL
from app.services import adapters, datasets
from app.services.base_models import BaseModels
from app.services.model_files import ModelFiles
from app.storage import Storage, existing

router = APIRouter(prefix="/api/worker/jobs/{job_id}")


def _model_files(request: Request) -> ModelFiles:
    files: ModelFiles = request.app.state.model_files
    return files


ModelFilesDep = Annotated[ModelFiles, Depends(_model_files)]


@router.get("/dataset")
def job_dataset(database: DatabaseDep, storage: StorageDep, shown: PassDep) -> FileResponse:
    with database.read() as session:
        job, _ = held(session, shown)
        return _dataset_file(session, storage, job.dataset_id)


@router.get("/datasets/{dataset_id}")
def job_mixed_dataset(database: DatabaseDep, storage: StorageDep, shown: PassDep, dataset_id: int) -> FileResponse:
    """One of the datasets that the job mixes."""
    with database.read() as session:
        job, _ = held(session, shown)
        if dataset_id not in [one["id"] for one in job.datasets or ()]:
            raise NotFound(f"This job does not train on dataset {dataset_id}.")
        return _dataset_file(session, storage, dataset_id)


@router.get("/validation-dataset")
def job_validation_dataset(database: DatabaseDep, storage: StorageDep, shown: PassDep) -> FileResponse:
    with database.read() as session:
        job, _ = held(session, shown)
        dataset_id = job.config.get("validation_dataset_id")
        if dataset_id is None:
            raise NotFound("This job has no validation dataset of its own.")
        return _dataset_file(session, storage, dataset_id)


def _dataset_file(session: Session, storage: Storage, dataset_id: int) -> FileResponse:
    dataset = datasets.get(session, dataset_id)
    return FileResponse(existing(datasets.lines_path(storage, dataset)), media_type="application/octet-stream")


@router.get("/from-adapter/{path:path}")
def job_parent_file(database: DatabaseDep, storage: StorageDep, shown: PassDep, path: str) -> FileResponse:
    """A file of the adapter that the job goes on from."""
    with database.read() as session:
        job, _ = held(session, shown)
        if job.from_adapter_id is None:
            raise NotFound("This job starts from its base model alone.")
        place = adapters.file(storage, adapters.get(session, job.from_adapter_id), path)
    return FileResponse(existing(place), media_type="application/octet-stream")


@router.get("/model")
def job_model(database: DatabaseDep, models: ModelsDep, files: ModelFilesDep, shown: PassDep) -> dict[str, Any]:
    """The files of the job's base model; 404 where it is no folder of the control center, 503 while they are read."""
    return {"files": files.listing(_folder(database, models, shown))}


@router.get("/model/{name}")
def job_model_file(
    database: DatabaseDep, models: ModelsDep, files: ModelFilesDep, shown: PassDep, name: str
) -> FileResponse:
    place = files.file(_folder(database, models, shown), name)
    return FileResponse(place, media_type="application/octet-stream")


def _folder(database: Database, models: BaseModels, shown: Pass) -> Path:
    with database.read() as session:
        job, _ = held(session, shown)
        folder = models.folder(job.model) if job.model != TINY_MODEL else None
    if folder is None or models.problem(job.model):
        raise NotFound(f"The base model {job.model} is no folder of the control center.")
    return folder
