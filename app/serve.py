"""The web process: uvicorn with a shutdown that closes the open streams first, so that it ends within a second."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app
from app.processes import WEB_LOCK, take_lock
from app.running import note_address

logger = logging.getLogger(__name__)

GRACE_S = 5
TICK_S = 1.0  # as often as the Date header changes
LOCK_WAIT_S = 8.0  # an earlier web process may be ending now


class Server(uvicorn.Server):
    """uvicorn waits for open connections, and streams never end by themselves: end them when the signal comes."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own ends the process where the port is taken; what comes after it is true."""
        await super().startup(sockets)
        try:
            note_address(self._app.state.settings)
        except OSError as error:
            logger.warning("Commands must be told the port, which cannot be noted: %s", error)

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it shall end, a good part of all an idle server does."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), TICK_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """In place of uvicorn's own, which raises the signal anew in the end: who ends in order ends with code 0."""
        if hub := getattr(self._app.state, "hub", None):
            hub.close()
        self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)
        self.should_exit = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._ending.set)


def serve(settings: Settings) -> None:
    """Serve until a signal, as the only web process of the data directory."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with os.fdopen(_lock(settings.data_dir)):
        _serve(settings)


def _lock(data_dir: Path) -> int:
    """Two web processes would both write the database; ends the process where one is there already."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = time.monotonic() + LOCK_WAIT_S
    while (lock := take_lock(data_dir / WEB_LOCK)) is None:
        if time.monotonic() > until:
            sys.exit(f"Another control center already serves {data_dir}: stop that one, or choose another --data-dir.")
        time.sleep(0.1)
    return lock


def _serve(settings: Settings) -> None:
    app = create_app(settings)
    gc.freeze()  # what is loaded by now stays: a collection need not walk through it, which takes 100 ms
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    Server(config, app).run()
