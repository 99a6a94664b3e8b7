"""What a dataset costs on its way in: the upload, the reading, every lint; peers read the same file in the same run.

    python -m benchmarks.intake [--json FILE] [--shrink] [--megabytes 1000]

The peers do the same checks in plain Python: the roles, empty and null answers, bare numbers, exact duplicates. Speeds
are megabytes of the file a second; memory is the largest sum of what a process and its children held.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from app.conversations.reader import read_conversations
from app.conversations.records import Rejected
from benchmarks.table import Row, arguments, machine, report, row

ROOT = Path(__file__).parents[1]
CHECKS = """
import json, sys
seen, found = set(), 0
def look(messages):
    global found
    if not isinstance(messages, list) or not messages:
        found += 1
        return
    for message in messages:
        content = message.get("content")
        found += message.get("role") not in ("system", "user", "assistant", "tool")
        found += content is None or (isinstance(content, str) and not content.strip())
        found += isinstance(content, (int, float)) or (isinstance(content, str) and content.strip().isdigit())
    key = hash(json.dumps(messages, sort_keys=True, default=str))
    found += key in seen
    seen.add(key)
"""
DATASETS = """
from datasets import load_dataset
for row in load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2]):
    look(row["messages"])
"""
PANDAS = """
import pandas
for chunk in pandas.read_json(sys.argv[1], lines=True, chunksize=5000):
    for messages in chunk["messages"]:
        look(messages)
"""
OURS = """
import sys
from pathlib import Path
from app.conversations.inspection import inspect
from app.conversations.part import Options
options = Options(frame=frozenset() if sys.argv[2] == "near" else None, model_dir=sys.argv[3] or None)
with inspect(Path(sys.argv[1]), options) as seen:
    print(sum(1 for finding in seen.findings()))
"""


def measure(folder: Path, megabytes: float, rows: int) -> list[Row]:
    small, large = folder / "small.jsonl", folder / "large.jsonl"
    make(small, rows)
    repeat(small, large, megabytes)
    plain = folder / "plain.jsonl"
    textual(small, plain, megabytes)
    made = [machine(), upload(large), reading(large), *lints(large, plain, folder)]
    return [*made, everything(small, folder)]


def make(path: Path, rows: int) -> None:
    command = [sys.executable, str(ROOT / "examples" / "make_leo_like.py"), str(path), "--rows", str(rows)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def repeat(source: Path, target: Path, megabytes: float) -> None:
    """The rows over and over, each time with other numbers of tasks, so that they are no duplicates."""
    data, turn = source.read_bytes(), 0
    with target.open("wb") as file:
        while file.tell() < megabytes * 1e6:
            turn += 1
            file.write(data.replace(b"Task 0", b"Task %d-0" % turn))


def textual(source: Path, target: Path, megabytes: float) -> None:
    """The rows that the peers can read at all: every content a text, no line that is not JSON."""
    with target.open("w", encoding="utf-8") as file:
        turn = 0
        while file.tell() < megabytes * 1e6:
            turn += 1
            for line in source.read_text("utf-8").splitlines():
                try:
                    messages = [{k: str(v) for k, v in one.items()} for one in json.loads(line)["messages"]]
                    messages[0]["content"] += f" {turn}"
                except (ValueError, TypeError, LookupError, AttributeError):
                    continue
                file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def upload(path: Path) -> Row:
    """`curl -T` into a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        port = str(20_000 + os.getpid() % 20_000)
        command = [sys.executable, "-m", "app.cli", "web", "--data-dir", folder, "--port", port]
        token = [sys.executable, "-m", "app.cli", "token", "--data-dir", folder]
        secret = subprocess.run(token, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seconds = _curl(path, f"http://127.0.0.1:{port}", secret)
        finally:
            server.terminate()
            server.wait(30)
    return row("upload with curl -T and sha256", _speed(path, seconds), "MB/s", mark=150)


def _curl(path: Path, base: str, secret: str) -> float:
    quiet = ["curl", "-sS", "--fail", "-o", os.devnull]
    until = time.monotonic() + 60
    while subprocess.run([*quiet, f"{base}/healthz"], check=False, stderr=subprocess.DEVNULL).returncode:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.2)
    started = time.perf_counter()
    header = ["-H", "@-", "-H", "Expect:"]  # the token stands in no argument
    command = [*quiet, *header, "-T", str(path), f"{base}/api/datasets/"]
    subprocess.run(command, check=True, input=f"Authorization: Bearer {secret}", text=True)
    return time.perf_counter() - started


def reading(path: Path) -> Row:
    started = time.perf_counter()
    bad = sum(isinstance(found, Rejected) for _, found in read_conversations(path))
    return row(f"read, decoded and normalized ({bad:,} lines in error)", _speed(path, time.perf_counter() - started),
               "MB/s", mark=100)  # fmt: skip


def lints(path: Path, plain: Path, folder: Path) -> list[Row]:
    seconds, peak = _timed([sys.executable, "-c", OURS, str(path), "", ""])
    made = [
        row("all lints but tokens and near duplicates", _speed(path, seconds), "MB/s", mark=25),
        row("their peak of memory", peak / 2**20, "MiB", "lower", mark=300),
    ]
    ours, peak = _timed([sys.executable, "-c", OURS, str(plain), "", ""])
    for name, script in (("datasets", DATASETS), ("pandas", PANDAS)):
        made += _peer(name, script, plain, folder, _speed(plain, ours), peak)
    return made


def _peer(name: str, script: str, plain: Path, folder: Path, ours: float, peak: int) -> list[Row]:
    if importlib.util.find_spec(name) is None:
        return [row(f"beside {name}: it is not installed", None, "MB/s")]
    try:
        seconds, theirs = _timed([sys.executable, "-c", CHECKS + script, str(plain), str(folder / "cache")])
    except subprocess.CalledProcessError:
        return [row(f"beside {name}: it fails on this file", None, "MB/s")]
    return [
        row(f"all lints beside {name} with five checks", ours, "MB/s", peer=_speed(plain, seconds)),
        row(f"peak of memory beside {name}", peak / 2**20, "MiB", "lower", peer=theirs / 2**20),
    ]


def everything(path: Path, folder: Path) -> Row:
    """Near duplicates and exact tokens included; the tokenizer is the built-in one."""
    from_here = [sys.executable, "-c", "import sys; from pathlib import Path; "
                 "from app.conversations.tiny_tokenizer import write_tiny_tokenizer; "
                 "write_tiny_tokenizer(Path(sys.argv[1]))", str(folder / "model")]  # fmt: skip
    subprocess.run(from_here, check=True, cwd=ROOT)
    seconds, _ = _timed([sys.executable, "-c", OURS, str(path), "near", str(folder / "model")])
    return row("everything on: near duplicates, exact tokens", seconds, "s", "lower", mark=25)


def _timed(command: list[str]) -> tuple[float, int]:
    """(seconds, largest sum of memory of the process and its children in bytes)."""
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        peaks = [0]
        watcher = threading.Thread(target=_watch, args=(child, peaks.append))
        watcher.start()
        code = child.wait()
        seconds = time.perf_counter() - started
        watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return seconds, max(peaks)


def _watch(child: "subprocess.Popen[bytes]", tell: Callable[[int], None]) -> None:
    while child.poll() is None:
        try:
            top = psutil.Process(child.pid)
            tell(sum(one.memory_full_info().uss for one in (top, *top.children(recursive=True))))
        except psutil.Error:
            pass
        time.sleep(0.05)


def _speed(path: Path, seconds: float) -> float:
    return path.stat().st_size / 1e6 / seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, default=1000.0, help="size of the large file")
    given = arguments(__doc__, parser)
    with tempfile.TemporaryDirectory() as folder:
        megabytes, rows = (1.0, 200) if given.shrink else (given.megabytes, 10_000)
        report(measure(Path(folder), megabytes, rows), given.json)


if __name__ == "__main__":
    main()
