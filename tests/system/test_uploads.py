"""Uploads and checks that are broken off: the client goes away at any byte, the web process dies while it checks."""

import random
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import REPOSITORY, Server
from tests.factories import jsonl, record
from tests.system.test_inbox import kill_web
from tests.waiting import until

BODY = jsonl(*(record(f"Which number is cut at {n}?", f"It is {n}.") for n in range(3000)))


def request(server: Server, how: str) -> bytes:
    """A whole request, as it goes over the wire."""
    host = urlsplit(server.url).netloc
    head = f"Host: {host}\r\nAuthorization: Bearer {server.token}\r\n"
    if how == "put":
        return f"PUT /api/datasets/cut.jsonl HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    if how == "chunked":
        parts = [BODY[start : start + 8192] for start in range(0, len(BODY), 8192)]
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return f"PUT /api/datasets/cut.jsonl HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked
    edge = 'Content-Disposition: form-data; name="file"; filename="cut.jsonl"'
    form = f"--cut\r\n{edge}\r\n\r\n".encode() + BODY + b"\r\n--cut--\r\n"
    kind = f"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: {len(form)}\r\n"
    return f"POST /api/datasets HTTP/1.1\r\n{head}{kind}\r\n".encode() + form


def send(server: Server, data: bytes) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        connection.sendall(data)


@pytest.mark.parametrize("how", ["put", "chunked", "form"])
def test_an_upload_that_is_cut_at_any_byte_leaves_nothing(server: Server, how: str) -> None:
    whole = request(server, how)
    head = whole.index(b"\r\n\r\n") + 4
    drawn = random.Random(how)
    cuts = [head // 2, head, head + 1, *(drawn.randrange(head, len(whole)) for _ in range(12)), len(whole) - 7]
    incoming = server.data_dir / "incoming"
    with server.client() as client:
        before = client.get("/api/datasets").json()
        for cut in cuts:
            send(server, whole[:cut])
        until(lambda: not [one for one in incoming.iterdir() if one.name.startswith(".part-")])
        assert client.get("/api/datasets").json() == before


def test_a_check_goes_on_after_the_web_process_was_killed(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    make = [sys.executable, str(REPOSITORY / "examples" / "make_leo_like.py"), str(path), "--rows", "10000"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    with server.client() as client:
        dataset = client.put("/api/datasets/killed.jsonl", content=path.read_bytes()).json()
        assert dataset["state"] == "checking"
        kill_web(server)

        def state() -> str:
            try:
                return str(client.get(f"/api/datasets/{dataset['id']}").json()["state"])
            except httpx.TransportError:
                return "away"

        until(lambda: state() == "ready", 120)
        found = client.get(f"/api/datasets/{dataset['id']}").json()
        assert found["num_records"] == 10_000 and found["findings"]["bare_count"] > 0
        listed = client.get(f"/api/datasets/{dataset['id']}/findings?kind=bare_count&limit=500").json()["items"]
        assert len({one["line"] for one in listed}) == len(listed) == min(500, found["findings"]["bare_count"])
