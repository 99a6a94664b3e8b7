"""Who gets in: tokens, one-time log-in codes, the session cookie, and the gate every request passes."""

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.errors import AppError, Forbidden, NotSignedIn

TokenScope = Literal["operator", "worker"]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CODE_S = 600
LEAST_TOKEN = 32
SESSION_S = 30 * 24 * 3600
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def token_path(data_dir: Path, scope: TokenScope) -> Path:
    return data_dir / ("token" if scope == "operator" else "worker-token")


def ensure_token(data_dir: Path, scope: TokenScope, path: Path | None = None) -> str:
    """The token of a scope, made on first use: 256 bits in a 0600 file that appears whole or not at all."""
    path = path or token_path(data_dir, scope)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(temporary, path)  # fails if another process was first; then its token stands
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    token = path.read_text().strip()
    if len(token) < LEAST_TOKEN:
        raise Forbidden(
            f"The token in {path} has fewer than {LEAST_TOKEN} characters; remove the file to get a new one."
        )
    return token


def _signed(token: str, purpose: str, expires_at: int, nonce: str) -> str:
    mac = hmac.new(token.encode(), f"{purpose}:{expires_at}:{nonce}".encode(), hashlib.sha256).hexdigest()
    return f"{expires_at}.{nonce}.{mac}"


def _read_signed(token: str, purpose: str, value: str) -> tuple[int, str] | None:
    """Expiry and nonce of a value signed with the token, or None where it is not ours or too old."""
    expires_text, _, rest = value.partition(".")
    nonce, _, _mac = rest.partition(".")
    if not expires_text.isascii() or not expires_text.isdigit() or len(expires_text) > 12:
        return None
    expires_at = int(expires_text)
    wanted = _signed(token, purpose, expires_at, nonce)
    if not hmac.compare_digest(wanted.encode(), value.encode()) or expires_at < time.time():
        return None
    return expires_at, nonce


def make_login_code(token: str) -> str:
    """A code for `/login?code=`: good once, for ten minutes."""
    return _signed(token, "login", int(time.time()) + CODE_S, secrets.token_urlsafe(12))


def read_login_code(token: str, code: str) -> tuple[int, str] | None:
    return _read_signed(token, "login", code)


def make_session(token: str) -> str:
    return _signed(token, "session", int(time.time()) + SESSION_S, secrets.token_urlsafe(12))


def cookie_name(port: int) -> str:
    """Cookies are shared by all ports of a host, so the name holds the port."""
    return f"trainctl_session_{port}"


def set_session_cookie(response: Response, settings: Settings, token: str, secure: bool) -> None:
    response.set_cookie(
        cookie_name(settings.port),
        make_session(token),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=secure,
        path="/",
    )


def has_session(headers: Headers, name: str, token: str) -> bool:
    # Cookies of other ports of this host come along, in whatever shape: the parser takes each by itself.
    value = cookie_parser(headers.get("cookie", "")).get(name)
    return value is not None and _read_signed(token, "session", value) is not None


@dataclass(frozen=True)
class Tokens:
    operator: str
    worker: str

    def scope_of(self, bearer: str) -> TokenScope | None:
        given = bearer.encode()
        if secrets.compare_digest(given, self.operator.encode()):
            return "operator"
        return "worker" if secrets.compare_digest(given, self.worker.encode()) else None


class Gate:
    """ASGI middleware: Host allow-list, token or session, same origin for what changes something, headers."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens) -> None:
        self.app = app
        self.tokens = tokens
        self.cookie = cookie_name(settings.port)
        self.loopback_only = settings.host in ("127.0.0.1", "localhost", "::1")
        named = {one.strip().lower() for one in settings.allowed_hosts.split(",") if one.strip()}
        self.hosts = {"localhost", "127.0.0.1", "::1", settings.host.lower()} | named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self.app(scope, receive, _with_headers(send))

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass, or None."""
        headers, path = Headers(scope=scope), scope["path"]
        if not self.knows_host(headers.get("host", "")):
            return JSONResponse(_error("bad_host", "This host name is not one the control center answers to."), 400)
        try:
            bearer = self.authenticate(path, headers)
            if bearer or scope["method"] not in SAFE_METHODS:
                check_origin(scope, headers, bearer)
        except NotSignedIn as error:
            if path.startswith("/api/") or path in ("/api", "/metrics", "/openapi.json"):
                return JSONResponse(error.as_json(), 401, {"WWW-Authenticate": "Bearer"})
            return RedirectResponse("/login", 303)
        except AppError as error:
            return JSONResponse(error.as_json(), error.status_code)
        return None

    def knows_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if not host or "@" in host or "/" in host:
            return False
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address is no name that could be bound anew; it only matters where others can reach us.
        return not self.loopback_only

    def authenticate(self, path: str, headers: Headers) -> bool:
        """True for a bearer token, false for a session or a public place; raises if neither is good."""
        authorization = headers.get("authorization", "")
        kind, _, token = authorization.partition(" ")
        is_public = path in ("/healthz", "/readyz", "/login") or path.startswith("/static/")
        if kind.lower() == "bearer":
            scope = self.tokens.scope_of(token.strip())
            if scope is None and not is_public:
                raise NotSignedIn("This token is not known.")
            if scope is not None and not is_public and (scope == "worker") != path.startswith("/api/worker/"):
                raise Forbidden("The worker token is good for /api/worker/ alone, the operator's for all else.")
            return scope is not None
        if is_public:
            return False
        if not self.has_session(headers):
            raise NotSignedIn
        if path.startswith("/api/worker/"):
            raise Forbidden("Only the worker token is good here.")
        return False

    def has_session(self, headers: Headers) -> bool:
        return has_session(headers, self.cookie, self.tokens.operator)


def check_origin(scope: Scope, headers: Headers, bearer: bool) -> None:
    """Refuse what another site may have made the browser send."""
    origin = headers.get("origin")
    same = origin is not None and origin == f"{scope['scheme']}://{headers.get('host', '')}"
    if bearer:
        if origin is not None and not same:
            raise Forbidden("A token sent from a page of another origin is refused.")
        return
    # Where both are sent both must agree.
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin" or not (origin is None or same):
            raise Forbidden("This request does not come from a page of the control center.")
    elif not same:
        if origin is not None:
            raise Forbidden("This request does not come from a page of the control center.")
        raise Forbidden("This request names no origin; send the token as `Authorization: Bearer TOKEN` instead.")


def _error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "detail": None}}


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped
