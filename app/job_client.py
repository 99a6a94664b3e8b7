"""`trainctl job`, `queue` and `node`: the REST calls of a job, of the queue and of a node, from the command line."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from app.config import Settings
from app.deeds import COMMAND, deed_words
from app.security import token_path
from app.versions import OWN

PAGE = 500  # items of a list that are fetched at once, the most there may be


class Refused(Exception):
    """The control center's own sentence on why not."""


class ControlCenter:
    """A client of the REST API with the token of the data directory."""

    def __init__(self, settings: Settings) -> None:
        path = token_path(settings.data_dir, "operator")
        if not path.exists():
            raise Refused(
                f"There is no token in {settings.data_dir}: start the control center, or name its --data-dir."
            )
        headers = {"Authorization": f"Bearer {path.read_text().strip()}", "User-Agent": f"{COMMAND}/{OWN}"}
        self._client = httpx.Client(base_url=settings.base_url, headers=headers, timeout=60, trust_env=False)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """The answer's JSON (or text); raises `Refused` with the server's sentence."""
        try:
            response = self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise Refused(f"The control center at {self._client.base_url} does not answer: {error}.") from error
        if response.is_error:
            try:
                raise Refused(response.json()["error"]["message"])
            except (ValueError, KeyError, TypeError):
                raise Refused(f"The control center answered {response.status_code}.") from None
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json else response.text

    def close(self) -> None:
        self._client.close()


def run_action(
    settings: Settings, action: str, job_id: int | None, value: str | None, now: bool, before: int | None = None
) -> int:
    """Carry an action out and print the answer; the exit code."""
    if action != "list" and job_id is None:
        return _say(f"Name the job: trainctl job {action} ID.")
    if action == "move" and (value is None) == (before is None):
        return _say(f"Say where to: trainctl job move {job_id} PLACE (1 is next), or --before OTHER.")
    body: dict[str, Any] | None = {"save": False} if action == "cancel" and now else None
    body = {"priority": value} if action == "priority" else body
    if action == "move":
        place = int(value) if value is not None and value.lstrip("-").isdecimal() else value
        body = {"position": place} if before is None else {"before": before}
    return _ask(settings, lambda client: _answer(client, action, job_id, body))


def run_queue(settings: Settings, action: str, hours: str | None = None) -> int:
    """Show the queue, pause it, let it go on or set its quiet hours; the exit code."""
    begin, _, end = (hours or "").partition("-")
    if action == "quiet" and not (hours == "none" or end):
        return _say("Say when: trainctl queue quiet 22:00-07:00, or none.")
    quiet = [] if hours == "none" else [{"from": begin, "to": end}]
    changes: dict[str, dict[str, Any]] = {
        "pause": {"paused": True},
        "resume": {"paused": False},
        "quiet": {"quiet_hours": quiet},
    }
    return _ask(settings, lambda client: _queue(client, changes.get(action)))


def run_node(settings: Settings, action: str, name: str | None) -> int:
    """Show the nodes, or drain, undrain or forget one; the exit code."""
    if action != "list" and name is None:
        return _say(f"Name the node: trainctl node {action} NAME.")
    return _ask(settings, lambda client: _nodes(client, action, name))


def _ask(settings: Settings, answer: Callable[[ControlCenter], str]) -> int:
    try:
        client = ControlCenter(settings)
    except Refused as error:
        return _say(str(error))
    try:
        sys.stdout.write(answer(client))
        return 0
    except Refused as error:
        return _say(str(error))
    finally:
        client.close()


def _answer(client: ControlCenter, action: str, job_id: int | None, body: dict[str, Any] | None) -> str:
    if action == "list":
        rows = _all(client, "/api/jobs")
        return "".join(f"{one['id']:>5}  {one['state']:<10} {one['step']:>7}  {one['name']}\n" for one in rows)
    if action == "log":
        return str(client.call("GET", f"/api/jobs/{job_id}/log"))
    if action == "history":
        rows = _all(client, f"/api/jobs/{job_id}/history")
        return "".join(f"{one['at']}  {one['who']:<14} {deed_words(one)}\n" for one in rows)
    if action == "show":
        shown = client.call("GET", f"/api/jobs/{job_id}")
    else:
        shown = client.call("POST", f"/api/jobs/{job_id}/{action}", json=body)
    return json.dumps(shown, ensure_ascii=False, indent=1) + "\n"


def _all(client: ControlCenter, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list, page by page."""
    params = {"limit": PAGE}
    while True:
        page = client.call("GET", path, params=params)
        yield from page["items"]
        if page["next"] is None:
            return
        params["after"] = page["next"]


def _queue(client: ControlCenter, change: dict[str, Any] | None) -> str:
    if change is not None:
        client.call("PUT", "/api/queue", json=change)
    shown = client.call("GET", "/api/queue", params={"limit": PAGE})
    closed = "paused, no job is begun" if shown["paused"] else "in its quiet hours" if shown["quiet_now"] else "open"
    lines = [f"The queue is {closed}; {len(shown['items'])}{'+' if shown['next'] else ''} queued."]
    for one in shown["items"]:
        why = (one["waiting_for"] or {}).get("message") or f"expected at {one['expected_start_at'] or '?'}"
        lines.append(f"{one['position']:>5}  {one['id']:>5}  {one['priority']:<7} {one['name']}: {why}")
    return "\n".join(lines) + "\n"


def _nodes(client: ControlCenter, action: str, name: str | None) -> str:
    if action != "list":
        wanted = next((one for one in _all(client, "/api/nodes") if name in (one["name"], str(one["id"]))), None)
        if wanted is None:
            raise Refused(f"There is no node {name}: `trainctl node` lists them.")
        if action == "forget":
            client.call("DELETE", f"/api/nodes/{wanted['id']}")
        else:
            client.call("POST", f"/api/nodes/{wanted['id']}/{action}")
    lines = []
    for one in _all(client, "/api/nodes"):
        lines.append(f"{one['id']:>5}  {one['state']:<9} {one['name']}")
        for lane in one["lanes"]:
            held = f", job {lane['job_id']}" if lane["job_id"] else ""
            lines.append(f"{'':>5}  {lane['state']:<9} {one['name']}/{lane['name']}{held}")
    return "".join(f"{line}\n" for line in lines)


def _say(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1
