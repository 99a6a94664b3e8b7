"""The execution API in memory, with switches for what may go wrong."""

import hashlib
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SAVE_MARK = 3
DATA = b'{"messages": []}\n'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class FakeServer:
    """One job at a time; `pairs` are the attempts that hold or held the claim, and the last one holds it."""

    def __init__(self) -> None:
        self.claims: deque[dict[str, Any]] = deque()
        self.pairs: list[tuple[str, str]] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.order: list[str] = []
        self.commands: list[str] = []
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {"dataset": DATA}
        self.ends: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.away = self.fencing = self.forgetful = False
        self.away_with = 503
        self.refusals = 0
        self.ranges: list[int] = []
        self.hold_files = threading.Event()
        self.hold_files.set()
        self.refused_step = -1
        self.accept_up_to: int | None = None
        self.lost_replies = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def offer(self, job_id: int = 7, attempt: int = 1, **changes: Any) -> dict[str, Any]:
        """Puts a job in the queue; the claim that a worker will be given."""
        dataset = {"id": 1, "name": "a.jsonl", "sha256": sha256(DATA), "size": len(DATA)}
        claim = {"job_id": job_id, "attempt": attempt, "claim_token": f"token-{attempt}", "name": "a job"}
        claim |= {"kind": "train", "model": "tiny-qwen3-vl", "config": {}, "dataset": dataset, "lease_s": 3}
        claim |= {"validation_dataset": None, "resume": None, **changes}
        self.claims.append(claim)
        return claim

    def seqs(self, attempt: int = 1) -> list[int]:
        return [event["seq"] for event in self.events.get(str(attempt), [])]

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Status and body, JSON or bytes, of one request."""
        self.tokens.add(headers.get("Authorization", ""))
        if self.away:
            self.refusals += 1
            return self.away_with, {"error": {"message": "away"}}
        parts = urlsplit(path).path.removeprefix("/api/worker/").split("/", 2)
        if parts[0] == "jobs":
            return self._job(method, unquote(parts[2]), headers, body)
        return self._node(parts, json.loads(body))

    def _node(self, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if parts == ["nodes"]:
            self.nodes.append(body)
            return 200, {"id": len(self.nodes), "lanes": [], "lease_s": 3, "beat_s": 1}
        if parts[0] == "nodes":
            self.beats.append(body)
            return (404, {"error": {"message": "no such node"}}) if self.forgetful else (200, {})
        self.order.append("claim")
        if not self.claims:
            return 204, None
        claim = self.claims.popleft()
        self.pairs.append((str(claim["attempt"]), claim["claim_token"]))
        return 200, claim

    def _job(self, method: str, name: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        pair = (headers["X-Attempt"], headers["X-Claim-Token"])
        old = name == "beat" and pair in self.pairs[:-1]
        if self.fencing or (pair != self.pairs[-1] and not old):
            return 409, {"error": {"code": "fenced", "message": "another attempt holds it"}}
        self.order.append(f"{method} {name} {pair[0]}")
        if name == "beat":
            reply = self._beat(pair[0], json.loads(body))
            if "save" in self.commands and self.lost_replies:
                self.lost_replies -= 1
                return 503, {"error": {"message": "taken, but nobody heard the answer"}}
            return reply
        if name == "end":
            self.ends.append(json.loads(body))
            return 200, {"state": "ended", "adapter_id": 1}
        if method == "PUT":
            self.hold_files.wait(20)
            return self._put(name.removeprefix("files/"), headers["X-Sha256"], body)
        self.hold_files.wait(20)
        return self._get(name, headers) if name in self.stored else (404, {"error": {"message": "no such file"}})

    def _get(self, name: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """A file, from the byte asked for on."""
        start = int(headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.ranges.append(start)
        return (206 if start else 200), self.stored[name][start:]

    def _put(self, name: str, promised: str, body: bytes) -> tuple[int, Any]:
        if sha256(body) != promised:
            return 409, {"error": {"code": "state_forbids", "message": "other bytes"}}
        self.files[name] = body
        return 200, {}

    def _beat(self, attempt: str, body: dict[str, Any]) -> tuple[int, Any]:
        events = body["events"]
        known = self.events.setdefault(attempt, [])
        if any(event.get("step") == self.refused_step for event in events):
            return 422, {"error": {"code": "wrong_input", "message": "a step like that"}}
        for event in events:
            highest = known[-1]["seq"] if known else 0
            wanted = self.accept_up_to is None or event["seq"] <= self.accept_up_to
            if event["seq"] > highest and wanted:
                known.append(event)
        if "save" in self.commands and body["heard"] >= SAVE_MARK:
            self.commands.remove("save")
        mark = SAVE_MARK if "save" in self.commands else body["heard"]
        return 200, {"commands": list(self.commands), "mark": mark, "seq": known[-1]["seq"] if known else 0}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, reply = fake.answer(self.command, self.path, dict(self.headers), body)
                payload = reply if isinstance(reply, bytes) else b"" if reply is None else json.dumps(reply).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = _do  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler
