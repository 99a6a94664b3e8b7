"""create_app(): settings, routers, static files, error answers and the parts that live as long as the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from app.analysis import Analysis
from app.config import Settings
from app.db import Database
from app.failures import add_error_answers
from app.hub import Hub
from app.inbox import Inbox
from app.queue import Waker
from app.routes import (
    adapters,
    datasets,
    estimate,
    execution,
    execution_files,
    health,
    inbox,
    jobs,
    login,
    nodes,
    pages,
    pages_datasets,
    pages_rechecks,
    pages_statistics,
    pages_versions,
    queue,
    recipes,
    records,
    statistics,
    stream,
    upkeep,
    versions,
)
from app.routes.pages_back import FormRefused
from app.security import Gate, Tokens, ensure_token
from app.services import attempts, events
from app.services.base_models import BaseModels
from app.services.datasets import look_for_files
from app.services.model_files import ModelFiles
from app.space import Disk
from app.storage import Storage
from app.sweep import Sweeper
from app.tables import bring_up_to_date
from app.templating import STATIC_DIR, CachedStaticFiles
from app.token_counts import TokenCounts


def create_app(settings: Settings) -> FastAPI:
    """The web process of one data directory. The folder, its tokens and its tables are made where they are missing."""
    storage = Storage(settings.data_dir)
    storage.prepare()
    bring_up_to_date(storage)
    tokens = Tokens(
        operator=ensure_token(settings.data_dir, "operator"),
        worker=ensure_token(settings.data_dir, "worker", settings.token_file),
    )
    app = FastAPI(title="Training Control Center", lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.settings, app.state.storage, app.state.tokens = settings, storage, tokens
    app.state.database = Database(storage.database)
    app.state.disk = Disk(settings.data_dir, settings.free_space_floor, settings.work_path)
    app.state.database.disk = app.state.disk
    app.state.base_models = BaseModels(tuple(settings.model_root_paths), settings.hub, settings.default_model)
    app.state.model_files = ModelFiles(storage.root / "model-hashes.json")
    app.add_middleware(Gate, settings=settings, tokens=tokens)
    add_error_answers(app)
    app.add_exception_handler(FormRefused, pages_datasets.answer_refused)
    for module in (
        health,
        login,
        datasets,
        records,
        jobs,
        queue,
        recipes,
        estimate,
        adapters,
        inbox,
        nodes,
        execution,
        execution_files,
        statistics,
        stream,
        upkeep,
        versions,
        pages,
        pages_datasets,
        pages_rechecks,
        pages_statistics,
        pages_versions,
    ):
        app.include_router(module.router)
    app.mount("/static", CachedStaticFiles(directory=STATIC_DIR), name="static")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database: Database = app.state.database
    newest = await to_thread.run_sync(_take_up, database, app.state.storage, settings.lease_s)
    app.state.hub = Hub(asyncio.get_running_loop(), newest)
    database.publish = app.state.hub.publish
    app.state.analysis = Analysis(database, app.state.storage, app.state.base_models)
    app.state.token_counts = TokenCounts()
    waker = Waker(settings)
    sweeper = Sweeper(database, app.state.storage, app.state.disk, waker, settings.lease_s)
    app.state.sweeper = sweeper
    database.nudge = sweeper.nudge
    sweeper.start()
    await app.state.analysis.start()
    app.state.inbox = _start_inbox(app)
    yield
    app.state.hub.close()
    await to_thread.run_sync(app.state.inbox.stop)
    await app.state.analysis.stop()
    await app.state.token_counts.stop()
    await to_thread.run_sync(sweeper.stop)
    waker.close()
    database.close()


def _start_inbox(app: FastAPI) -> Inbox:
    """From its thread it asks for checks, which live on this loop."""
    loop, analysis, state = asyncio.get_running_loop(), app.state.analysis, app.state

    def begin_check(dataset_id: int) -> None:
        loop.call_soon_threadsafe(analysis.add, dataset_id)

    inbox = Inbox(state.settings, state.database, state.storage, state.disk, state.base_models, begin_check)
    inbox.start()
    return inbox


def _take_up(database: Database, storage: Storage, lease_s: float) -> int:
    """Workers that went on while this process was away keep their jobs."""
    with database.write() as session:
        attempts.extend_leases(session, lease_s)
        look_for_files(session, storage)
    with database.read() as session:
        return events.newest_id(session)
