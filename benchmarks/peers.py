"""The peers of the queue and of the live view, each measured in the same run; None for one that is not installed."""

import json
import os
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from benchmarks.center import answers, free_port, timed_ms, until


def mlflow_rows_per_s(folder: Path, rows: int, values: int) -> float | None:
    """Rows of so many metrics a second into MLflow's SQLite store, a thousand metrics a call, its limit."""
    if find_spec("mlflow") is None or find_spec("sqlalchemy") is None:
        return None
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store_class = import_module("mlflow.store.tracking.sqlalchemy_store").SqlAlchemyStore
        metric_class = import_module("mlflow.entities").Metric
        store = store_class(f"sqlite:///{folder}/mlflow.db", str(folder / "mlruns"))
        run_id = store.create_run("0", "user", 0, [], "run").info.run_id
        per_call = 1000 // values
        began = time.perf_counter()
        for first in range(0, rows, per_call):
            steps = range(first, min(rows, first + per_call))
            some = [metric_class(f"m{n}", step * 1.5 + n, 1000 * step, step) for step in steps for n in range(values)]
            store.log_batch(run_id, some, [], [])
        return rows / (time.perf_counter() - began)


def tensorboard_chart(folder: Path, steps: int, rounds: int) -> tuple[float, float] | None:
    """(median milliseconds of a chart of 2,000 points once loaded, seconds from the start until it was loaded)."""
    if find_spec("tensorboard") is None:
        return None
    write_scalars(folder / "logs", steps)
    port = free_port()
    line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "logs"), "--port", str(port)]
    line += ["--samples_per_plugin", "scalars=2000", "--reload_interval", "1"]
    place = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=.&tag=loss"
    with running(line, port) as began, httpx.Client(timeout=60, trust_env=False) as http:
        until(lambda: last_step(http.get(place)) == steps, 400, pause_s=0.2)
        loaded_s = time.monotonic() - began
        took = timed_ms(lambda: http.get(place).raise_for_status(), rounds)
    return sorted(took)[len(took) // 2], loaded_s


def last_step(answer: httpx.Response) -> int:
    points = answer.json() if answer.is_success else []
    return int(points[-1][1]) if points else 0


def write_scalars(folder: Path, steps: int) -> None:
    """TensorBoard's file of events: records of length, its checksum, content, its checksum."""
    event_class = import_module("tensorboard.compat.proto.event_pb2").Event
    folder.mkdir()
    with (folder / "events.out.tfevents.1.bench").open("wb") as file:
        for step in range(steps + 1):
            event = event_class(wall_time=1.7e9 + step, step=step)
            if step == 0:
                event.file_version = "brain.Event:2"
            else:
                event.summary.value.add(tag="loss", simple_value=3 / (1 + step / 1e5) + (step * 7919 % 1000) / 1000)
            content = event.SerializeToString()
            file.write(length_record(len(content)) + content + struct.pack("<I", masked_crc(content)))


@cache
def length_record(length: int) -> bytes:
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", masked_crc(head))


@cache
def crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def masked_crc(content: bytes) -> int:
    """CRC-32C as record files hold it."""
    table, crc = crc_table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def flower_list(folder: Path, tasks: int, rounds: int) -> list[float] | None:
    """Milliseconds of the request behind Flower's list: fifty of so many tasks, newest first."""
    if find_spec("flower") is None:
        return None
    with broker(folder / "peer") as url:
        port = free_port()
        line = [sys.executable, "-m", "celery", "-b", url, "flower", f"--port={port}", "--address=127.0.0.1"]
        with running([*line, f"--max_tasks={2 * tasks}"], port), httpx.Client(timeout=60, trust_env=False) as http:
            tell_of_tasks(url, tasks)
            order: dict[str, str | int] = {
                "order[0][column]": 0,
                "order[0][dir]": "desc",
                "columns[0][data]": "received",
            }
            query: dict[str, str | int] = {"draw": 1, "start": 0, "length": 50, "search[value]": "", **order}
            place = f"http://127.0.0.1:{port}/tasks/datatable"
            until(lambda: http.get(place, params=query).json()["recordsTotal"] >= tasks, 120, pause_s=0.5)
            return timed_ms(lambda: http.get(place, params=query).raise_for_status(), rounds)


def tell_of_tasks(url: str, tasks: int) -> None:
    """What workers would say of so many tasks."""
    app = import_module("celery").Celery("peer", broker=url, set_as_current=False)
    with app.events.default_dispatcher(hostname="worker@bench") as dispatcher:
        for number in range(tasks):
            named = {"uuid": f"task-{number}", "name": "train", "args": "()", "kwargs": json.dumps({"lora_r": 32})}
            dispatcher.send("task-received", **named)
            dispatcher.send("task-succeeded", uuid=named["uuid"], result="None", runtime=1.5)
    app.close()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The embedded broker, under its supervisor; its URL."""
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "app.broker", str(folder)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        path = import_module("app.broker").socket_path(folder)
        until(path.exists, 30)
        yield "redis+socket://" + quote(str(path))
    finally:
        process.communicate()


@contextmanager
def running(line: list[str], port: int) -> Iterator[float]:
    """A web server in a process of its own; when it was started."""
    began: float = time.monotonic()
    environment: dict[str, Any] = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        until(lambda: answers(port, "/") or process.poll() is not None, 120)
        yield began
    finally:
        process.terminate()
        process.wait(30)
