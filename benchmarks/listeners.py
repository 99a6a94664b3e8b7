"""Many listeners of one job's stream, as light as they can be: a program of its own beside the control center.

    python benchmarks/listeners.py HOST PORT PATH TOKEN_FILE COUNT

Says `ready` once all streams are open, then reads lines: at `stop` it writes one line of JSON: how many events each
listener heard at least and at most, and the milliseconds from `sent` in an event to its arrival.
"""

import asyncio
import json
import re
import resource
import sys
import time
from functools import partial
from pathlib import Path

SENT = re.compile(rb'"sent":([\d.]+)')
OPENING_AT_ONCE = 64


class Listener(asyncio.Protocol):
    """Counts the events with a time of sending; `late_ms` is shared by all."""

    def __init__(self, request: bytes, late_ms: list[float]) -> None:
        self.request, self.late_ms = request, late_ms
        self.count, self.rest = 0, b""
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.opened.done():
            self.opened.set_result(None)
        whole, _, self.rest = (self.rest + data).rpartition(b"\n\n")
        for sent in SENT.findall(whole):
            self.count += 1
            self.late_ms.append(1000 * (now - float(sent)))


def _same(listener: Listener) -> Listener:
    return listener


async def listen(host: str, port: int, path: str, token: str, count: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    late_ms: list[float] = []
    listeners = [Listener(request, late_ms) for _ in range(count)]
    loop = asyncio.get_running_loop()
    for start in range(0, count, OPENING_AT_ONCE):
        some = listeners[start : start + OPENING_AT_ONCE]
        await asyncio.gather(*(loop.create_connection(partial(_same, one), host, port) for one in some))
        await asyncio.gather(*(one.opened for one in some))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    counts = [one.count for one in listeners]
    print(json.dumps({"least": min(counts), "most": max(counts), "late_ms": late_ms}), flush=True)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    secret = Path(sys.argv[4]).read_text("utf-8").strip()
    asyncio.run(listen(sys.argv[1], int(sys.argv[2]), sys.argv[3], secret, int(sys.argv[5])))
