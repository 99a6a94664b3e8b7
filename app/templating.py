"""The Jinja environment of the pages: strict names, filters for numbers and times, macros as globals."""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.deeds import who_words
from app.space import human

ROOT = Path(__file__).resolve().parent.parent
STATIC_DIR = ROOT / "static"
THEMES = ("auto", "light", "dark")
GIB = 2**30
COMPRESS_FROM = 2000
STATE_WORDS = {
    "queued": "Queued",
    "claimed": "Preparing",
    "running": "Running",
    "paused": "Paused",
    "failed": "Failed",
    "cancelled": "Stopped",
    "succeeded": "Finished",
}
MEMORY_PARTS = ("weights", "adapter", "optimizer", "activations", "head", "images")
PRIORITY_WORDS = ("urgent", "high", "normal", "low")
ASKED_WORDS = {"cancel": "Stopping", "pause": "Pausing"}


class CachedStaticFiles(StaticFiles):
    """Static files; one whose address names its version or content never changes, so browsers keep it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Fonts are compressed already, all else is sent compressed."""
        answer = super().__call__
        app: ASGIApp = answer if scope["path"].endswith(".woff2") else GZipMiddleware(answer, minimum_size=1000)
        await app(scope, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope["query_string"] or path.startswith(("fonts/", "vendor/"))
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


@cache
def _content_hash(path: Path, _modified_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def static_url(name: str) -> str:
    """Address of a static file with a hash of its content."""
    path = STATIC_DIR / name
    return f"/static/{name}?v={_content_hash(path, path.stat().st_mtime_ns)}"


def number(value: float | None, digits: int = 0) -> str:
    """1234567 -> 1,234,567; nothing -> a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def plural(count: int | None, noun: str) -> str:
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def loss(value: float | None) -> str:
    """Four digits that matter: 12.35, 1.325, 0.0421."""
    if value is None:
        return "–"
    if value != 0 and abs(value) < 0.001:
        return short(value)
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def short(value: float | None) -> str:
    """A small number as people write it: 0.0002 -> 2e-4."""
    if value is None:
        return "–"
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def size(value: float | None) -> str:
    """Bytes of a file: 174 MB."""
    return "–" if value is None else human(round(value))


def memory(value: float | None, unit: bool = True) -> str:
    """Bytes of memory: 18.2 GB (as a GPU's 24 GB are meant: units of 2**30); little of it in MB."""
    if unit and value is not None and 0 < value < GIB / 10:
        return f"{value / 2**20:.{0 if value >= 2**20 else 1}f} MB"
    return "–" if value is None else f"{value / GIB:.1f}" + (" GB" if unit else "")


def duration(seconds: float | None) -> str:
    """45 s, 12 min, 1 h 05 min, 2 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def percent(part: float | None, whole: float | None) -> float:
    """0 to 100, and 0 where there is nothing to divide."""
    return min(100.0, max(0.0, 100 * part / whole)) if part and whole else 0.0


def moment(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value).astimezone() if value else None


def clock(value: str | None) -> str:
    """17:34 in the server's time zone; the page's script turns it into the reader's."""
    at = moment(value)
    return at.strftime("%H:%M") if at else "–"


def soon(value: str | None) -> str:
    """A moment that is to come: 17:34 today, Mon 17:34 within the week, else 24 Dec."""
    at = moment(value)
    if at is None:
        return "–"
    days = (at.date() - datetime.now().astimezone().date()).days
    return at.strftime("%H:%M" if days == 0 else "%a %H:%M" if 0 < days < 7 else "%-d %b")


def ago(value: str | None) -> str:
    at = moment(value)
    if at is None:
        return "–"
    seconds = (datetime.now(UTC) - at).total_seconds()
    if seconds < 60:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def state_word(job: Mapping[str, Any]) -> str:
    """The word a person reads for the state of a job."""
    if job["state"] in ("claimed", "running") and job["asked"] in ASKED_WORDS:
        return ASKED_WORDS[job["asked"]]
    return STATE_WORDS.get(job["state"], str(job["state"]).capitalize())


def kind_word(kind: str) -> str:
    """The kind of a finding in words: not_json -> Not JSON."""
    return kind.replace("_", " ").capitalize().replace("json", "JSON")


def polyline(values: Sequence[float | None], width: int = 96, height: int = 26) -> str:
    """Points of an SVG line through the values that are there; empty for fewer than two."""
    known = [one for one in values if one is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    spread, dx = (high - low) or 1, width / (len(known) - 1)
    return " ".join(f"{i * dx:.1f},{2 + (height - 4) * (high - one) / spread:.1f}" for i, one in enumerate(known))


def make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    times = (duration, clock, soon, ago)
    filters = (number, plural, loss, short, size, memory, *times, state_word, kind_word, who_words)
    environment.filters.update({one.__name__: one for one in filters})
    environment.globals.update(
        static_url=static_url, percent=percent, polyline=polyline, memory_parts=MEMORY_PARTS, priorities=PRIORITY_WORDS
    )
    # A macro imported at the top of a page is undefined in a partial that is rendered alone.
    macros = environment.get_template("_macros.html").module
    environment.globals.update({name: value for name, value in vars(macros).items() if not name.startswith("_")})
    return environment


@cache
def get_environment() -> Environment:
    return make_environment()


def theme_of(request: Request) -> str:
    chosen = request.cookies.get("theme", "auto")
    return chosen if chosen in THEMES else "auto"


def render(
    request: Request, name: str, *, status_code: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A page or a fragment. What is live must not come back from the browser's cache, hence no-store."""
    template = get_environment().get_template(name)
    shared = {"path": request.url.path, "theme": theme_of(request), "disk_warning": request.app.state.disk.warning()}
    html = template.render(**shared, **context).encode()
    sent = {"Cache-Control": "no-store", "Vary": "Accept-Encoding", **(headers or {})}
    if len(html) > COMPRESS_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        html, sent = gzip.compress(html, 5), sent | {"Content-Encoding": "gzip"}
    return HTMLResponse(html, status_code, headers=sent)


def told(words: str) -> Response:
    """Nothing to swap in: a toast, and the word to every region that shows jobs to read itself anew."""
    heard = {"toast": {"kind": "ok", "text": words}, "state": {}, "queue": {}, "node": {}}
    return Response(status_code=204, headers={"HX-Trigger": json.dumps(heard)})


HEADINGS = {
    401: "Log in first",
    403: "That is not allowed",
    404: "Nothing is here",
    409: "Not in this state",
    413: "Too large",
    422: "Some of that is wrong",
    503: "Busy",
    507: "The disk is full",
}


def _came_from(request: Request) -> str | None:
    """The page whose link or form led here, where it is one of ours and another than this."""
    page = urlsplit(request.headers.get("referer", ""))
    if page.netloc != request.url.netloc or page.path == request.url.path:
        return None
    return "/" + page.path.lstrip("/") + (f"?{page.query}" if page.query else "")


def render_error(request: Request, status_code: int, error: Mapping[str, Any]) -> HTMLResponse:
    """The page of an error; `error` as the API shows it. Script hears the sentence too, and shows it as a toast."""
    heading = HEADINGS.get(status_code, "The control center failed" if status_code >= 500 else "That did not work")
    toast = json.dumps({"toast": {"kind": "bad", "text": error["message"]}})
    return render(
        request,
        "error.html",
        status_code=status_code,
        headers={"HX-Trigger": toast},
        heading=heading,
        message=error["message"],
        back=_came_from(request),
        lanes=None,
        stream=None,
    )
