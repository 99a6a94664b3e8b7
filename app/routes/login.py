"""Signing in: a one-time link, or the token typed into a form. Both end in a session cookie."""

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from app.config import Settings
from app.db import DatabaseDep
from app.models import Nonce
from app.security import Tokens, cookie_name, has_session, read_login_code, set_session_cookie
from app.templating import render

router = APIRouter()
logger = logging.getLogger(__name__)


def _signed_in(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    tokens: Tokens = request.app.state.tokens
    response = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
    set_session_cookie(response, settings, tokens.operator, secure=urlsplit(str(request.url)).scheme == "https")
    return response


@router.get("/login", response_model=None)
def show_login(request: Request, database: DatabaseDep, code: str | None = None) -> Response:
    """The form; with a good code, straight in."""
    if code is None:
        return render(request, "login.html", error=None)
    tokens: Tokens = request.app.state.tokens
    known = read_login_code(tokens.operator, code)
    if known is None:
        return _no_use(request, "This link has expired or is not whole.")
    expires_at, nonce = known
    with database.write() as session:
        if session.get(Nonce, nonce) is not None:
            return _no_use(request, "This link was used already.")
        session.add(Nonce(value=nonce, expires_at=expires_at))
    return _signed_in(request)


def _no_use(request: Request, why: str) -> Response:
    """A link that signs nobody in: whoever is signed in goes on to the dashboard."""
    settings: Settings = request.app.state.settings
    tokens: Tokens = request.app.state.tokens
    if has_session(request.headers, cookie_name(settings.port), tokens.operator):
        return RedirectResponse("/", 303, {"Cache-Control": "no-store"})
    error = f"{why} Get a new one with `trainctl login-url`, or sign in with the token."
    return render(request, "login.html", error=error, status_code=401)


@router.post("/login", response_model=None)
def log_in(request: Request, token: Annotated[str, Form(max_length=500)] = "") -> Response:
    tokens: Tokens = request.app.state.tokens
    if tokens.scope_of(token.strip()) != "operator":
        error = "This is not the token. `trainctl token` prints it."
        return render(request, "login.html", error=error, status_code=401)
    return _signed_in(request)
