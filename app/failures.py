"""What goes wrong, as an answer: JSON under /api, a page elsewhere, and never a traceback."""

import logging
import secrets
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.errors import AppError, DiskFull
from app.schemas import in_words
from app.space import Disk, is_full
from app.templating import render_error

logger = logging.getLogger(__name__)


def add_error_answers(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _wrong_input)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(OSError, _system_error)
    app.add_exception_handler(OverflowError, _too_large_a_number)
    app.add_exception_handler(Exception, _unexpected)


def answer(request: Request, status_code: int, code: str, message: str, detail: Any = None) -> Response:
    error = {"code": code, "message": message, "detail": detail}
    if request.url.path.startswith("/api") or request.url.path in ("/metrics", "/healthz", "/readyz"):
        return JSONResponse({"error": error}, status_code)
    return render_error(request, status_code, error)


def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return answer(request, error.status_code, error.code, error.message, error.detail)


def _wrong_input(request: Request, error: Exception) -> Response:
    """Malformed parameters and bodies: every wrong field, in words."""
    assert isinstance(error, RequestValidationError)
    detail = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part not in ("body", "query", "path", "header")]
        # Of a broken body pydantic names the place as a number of bytes, which is no field.
        field = "body" if item["type"] == "json_invalid" else ".".join(place) or "body"
        detail.append({"field": field, "message": in_words(item)})
    message = "; ".join(f"{one['field']}: {one['message']}" for one in detail)
    if any(item["loc"][0] == "path" for item in error.errors()):
        return answer(request, 404, "not_found", "There is nothing at this address.")
    return answer(request, 422, "wrong_input", message, detail)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and "parsing the body" in str(error.detail):
        return answer(request, 422, "wrong_input", "body: is not JSON", [{"field": "body", "message": "is not JSON"}])
    phrase = HTTPStatus(error.status_code).phrase
    plain = {404: "There is nothing at this address.", 405: f"This address does not take {request.method}."}
    message = plain.get(error.status_code, f"{error.detail}.")
    response = answer(request, error.status_code, phrase.lower().replace(" ", "_"), message)
    response.headers.update(error.headers or {})
    return response


def _too_large_a_number(request: Request, error: Exception) -> Response:
    """An id beyond what a row can have."""
    return answer(request, 404, "not_found", "There is nothing with so large a number.")


def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError)
    if is_full(error):
        return _disk_full(request)
    if getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return answer(request, 503, "busy", "The database is busy; send it again in a moment.")
    return _unexpected(request, error)


def _system_error(request: Request, error: Exception) -> Response:
    return _disk_full(request) if is_full(error) else _unexpected(request, error)


def _disk_full(request: Request) -> Response:
    disk: Disk = request.app.state.disk
    disk.was_full = True
    return answer(request, 507, DiskFull.code, disk.full_message())


def _unexpected(request: Request, error: Exception) -> Response:
    number = secrets.token_hex(4)
    logger.error("Unexpected error %s at %s %s", number, request.method, request.url.path, exc_info=error)
    message = (
        f"This is a fault of the control center. Its log has the reason under {number}; nothing of yours was changed."
    )
    return answer(request, 500, "internal", message)
