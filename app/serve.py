"""The web process: uvicorn with a shutdown that closes the open streams first, so that it ends within a second."""

import logging
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app

GRACE_S = 5


class Server(uvicorn.Server):
    """uvicorn waits for open connections, and streams never end by themselves: end them when the signal comes."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if hub := getattr(self._app.state, "hub", None):
            hub.close()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until a signal; the address is taken before anything is said."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = create_app(settings)
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
