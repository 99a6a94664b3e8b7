"""Where the control center of a data directory answers while it runs, so that a command need not be told."""

import json
import os

from app.config import Settings
from app.processes import WEB_LOCK, take_lock

ADDRESS = ".address.json"  # in the data directory; true while the web process holds its lock
ELSEWHERE = {"port", "server_url"}  # told by flag or environment, they name a control center of their own


def note_address(settings: Settings) -> None:
    """Called by the web process once it listens there."""
    path = settings.data_dir / ADDRESS
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"host": settings.host, "port": settings.port}))
    part.replace(path)


def reaching(settings: Settings) -> Settings:
    """The settings with the address of the running control center; a host that was told stays."""
    if settings.model_fields_set & ELSEWHERE or not _is_running(settings):
        return settings
    try:
        kept = json.loads((settings.data_dir / ADDRESS).read_text())
        noted = {"host": str(kept["host"]), "port": int(kept["port"])}
        # One listens on all addresses and is asked at one of them: the host that was told is the better one to ask at.
        return settings.model_copy(update={name: noted[name] for name in noted.keys() - settings.model_fields_set})
    except (OSError, ValueError, KeyError, TypeError):
        return settings


def _is_running(settings: Settings) -> bool:
    if not (settings.data_dir / WEB_LOCK).exists():
        return False
    try:
        free = take_lock(settings.data_dir / WEB_LOCK)
    except OSError:
        return False
    if free is not None:
        os.close(free)
    return free is None
