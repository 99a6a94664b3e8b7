"""The execution API of the control center, as a worker speaks it. Make a client only after a fork."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from worker.files import Part
from worker.messages import BeatReply, Claim, DatasetSpec, FileSpec, NodeReply

UNKNOWN, FORBIDDEN_BY_STATE = 404, 409
FENCED = "fenced"
CONNECT_S, READ_S, FILE_S, LEAVE_S = 2.0, 20.0, 120.0, 2.0


class ServerAway(Exception):
    """The control center cannot be reached or is not itself: try again later."""


class Fenced(Exception):
    """This attempt does not hold the job any more."""


class Refused(Exception):
    """The control center understood and said no; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


def nothing() -> None:
    """No check."""


class TokenFile(httpx.Auth):
    """Reads the token for every request: it may be made, or made anew, while the worker waits."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        try:
            token = self.path.read_text().strip()
        except OSError as error:
            raise ServerAway(f"no worker token at {self.path}: {error.strerror}") from error
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


class Client:
    """Calls of a worker. All raise `ServerAway` and `Refused`; those of a job also `Fenced`. Safe among threads."""

    def __init__(self, base_url: str, token_path: Path) -> None:
        # A proxy of the environment is for the world outside, not for a control center on this machine.
        local = urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        self._http = httpx.Client(base_url=base_url, auth=TokenFile(token_path), timeout=timeout, trust_env=not local)

    def close(self) -> None:
        self._http.close()

    def register(self, node: dict[str, Any]) -> int:
        """Tells of this node and its lane; the node's id."""
        return int(self._json("POST", "/api/worker/nodes", json=node)["id"])

    def beat(self, node_id: int, beat: dict[str, Any]) -> NodeReply:
        return NodeReply.model_validate(self._json("POST", f"/api/worker/nodes/{node_id}/beat", json=beat))

    def leave(self, node_id: int, lane: str) -> None:
        """Tells that this lane's worker ends in good order."""
        self.call("POST", f"/api/worker/nodes/{node_id}/leave", json={"lane": lane}, timeout=LEAVE_S)

    def claim(self, node_id: int, lane: str, key: str) -> Claim | None:
        """The best job that fits this lane, or None; the same `key` again gives the same claim again."""
        reply = self.call("POST", "/api/worker/claim", json={"node_id": node_id, "lane": lane, "key": key})
        return None if reply.status_code == 204 else Claim.model_validate_json(reply.content)

    def job(self, job_id: int, attempt: int, claim_token: str) -> "JobClient":
        return JobClient(self, f"/api/worker/jobs/{job_id}", {"X-Attempt": str(attempt), "X-Claim-Token": claim_token})

    def call(self, method: str, url: str, job: bool = False, **options: Any) -> httpx.Response:
        """A reply that worked; with `job`, 409 means fenced."""
        with _transport():
            return _checked(self._http.request(method, url, **options), job)

    @contextmanager
    def stream(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The reply of a job's file, to be read in pieces."""
        with _transport(), self._http.stream("GET", url, headers=headers, timeout=FILE_S) as reply:
            if reply.status_code not in (200, 206):
                reply.read()
            yield _checked(reply, job=True)

    def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        return _object(self.call(method, url, **options))


class JobClient:
    """Calls under one job, with one attempt's claim."""

    def __init__(self, client: Client, base: str, headers: dict[str, str]) -> None:
        self._client, self._base, self._headers = client, base, headers

    def beat(self, events: Sequence[dict[str, Any]], earlier: bool = False, heard: int = 0) -> BeatReply:
        """`earlier` marks the spool of an attempt that has ended: without it a lost attempt is told so.

        `heard` is the mark of the last reply that came: until it is sent, save and sample are asked for again.
        """
        body = {"events": list(events), "earlier": earlier, "heard": heard}
        return BeatReply.model_validate(self._claimed("beat", body))

    def end(self, ending: dict[str, Any]) -> dict[str, Any]:
        """Ends the attempt. Calling it again with the same claim is fine."""
        return self._claimed("end", ending)

    def put_file(self, name: str, path: Path, sha256: str) -> None:
        """Streams a file; raises FileNotFoundError when it is not there (any more)."""
        headers = {**self._headers, "X-Sha256": sha256, "Content-Type": "application/octet-stream"}
        with path.open("rb") as stream:
            url = f"{self._base}/files/{quote(name)}"
            self._client.call("PUT", url, job=True, headers=headers, content=stream, timeout=FILE_S)

    def get_dataset(self, which: str, spec: DatasetSpec, target: Path, check: Callable[[], None] = nothing) -> None:
        """`which` is `dataset`, `datasets/ID` or `validation-dataset`. Raises `WrongBytes`, and what `check` raises: it
        is called between pieces. The next try goes on from where one broke off."""
        self._download(which, FileSpec(path=which, size=spec.size, sha256=spec.sha256), target, check)

    def get_file(self, spec: FileSpec, attempt: int, target: Path, check: Callable[[], None] = nothing) -> None:
        self._download(f"files/{quote(spec.path)}?attempt={attempt}", spec, target, check)

    def get_parent_file(self, spec: FileSpec, target: Path, check: Callable[[], None] = nothing) -> None:
        """A file of the adapter that the job goes on from."""
        self._download(f"from-adapter/{quote(spec.path)}", spec, target, check)

    def model_files(self) -> list[FileSpec] | None:
        """The files of the job's base model; None where it is no folder of the control center."""
        try:
            reply = self._client.call("GET", f"{self._base}/model", job=True, headers=self._headers)
        except Refused as error:
            if error.status != UNKNOWN:
                raise
            return None
        return [FileSpec.model_validate(one) for one in _object(reply)["files"]]

    def get_model_file(self, spec: FileSpec, target: Path, check: Callable[[], None] = nothing) -> None:
        self._download(f"model/{quote(spec.path)}", spec, target, check)

    def _download(self, name: str, spec: FileSpec, target: Path, check: Callable[[], None]) -> None:
        """Writes the bytes to `target`; raises `WrongBytes` when they are not the ones that were promised."""
        part = Part(target, spec.size, spec.sha256)
        if part.size < spec.size or not spec.size:
            headers = self._headers | ({"Range": f"bytes={part.size}-"} if part.size else {})
            with self._client.stream(f"{self._base}/{name}", headers) as reply:
                part.append(_checked_pieces(reply.iter_bytes(1 << 20), check), anew=reply.status_code == 200)
        part.finish()

    def _claimed(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._base}/{name}"
        try:
            return _object(self._client.call("POST", url, job=True, headers=self._headers, json=body))
        except Refused as error:
            if error.status != UNKNOWN:
                raise
            raise Fenced("the control center does not know this job") from error


def _checked_pieces(pieces: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for piece in pieces:
        check()
        yield piece


class Pause:
    """Waits between tries: a little longer each time, up to two seconds."""

    def __init__(self, first: float = 0.2, longest: float = 2.0) -> None:
        self._first, self._longest, self._next = first, longest, first
        self._until = 0.0

    def failed(self) -> None:
        self._until = time.monotonic() + self._next
        self._next = min(self._longest, self._next * 1.6)

    def worked(self) -> None:
        self._until, self._next = 0.0, self._first

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._until


@contextmanager
def _transport() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ServerAway(f"{type(error).__name__}: {error}") from error


def _object(reply: httpx.Response) -> dict[str, Any]:
    try:
        body = reply.json()
    except json.JSONDecodeError as error:
        # Somebody else answers at that address, a proxy's page perhaps.
        raise ServerAway(f"{reply.url} did not answer with JSON") from error
    return body if isinstance(body, dict) else {}


def _checked(reply: httpx.Response, job: bool = False) -> httpx.Response:
    """The reply of a call that worked. 429 and 5xx mean "later": a full disk is freed, a server comes back."""
    status = reply.status_code
    if status < 300:
        return reply
    if status == 409 and job and _error(reply).get("code", FENCED) == FENCED:
        raise Fenced(_message(reply))
    if status == 429 or status >= 500:
        raise ServerAway(f"{status}: {_message(reply)}")
    raise Refused(status, _message(reply))


def _message(reply: httpx.Response) -> str:
    return str(_error(reply).get("message") or reply.text[:200])


def _error(reply: httpx.Response) -> dict[str, Any]:
    try:
        error = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
