"""Errors that reach a person: a status, a code and one sentence that says what to do."""

from typing import Any


class AppError(Exception):
    """Base of everything the control center refuses; `status_code` is the HTTP status it is answered with."""

    status_code = 400
    code = "bad_request"
    message = "This request cannot be carried out."

    def __init__(self, message: str | None = None, detail: Any = None) -> None:
        self.message = message or self.message
        self.detail = detail
        super().__init__(self.message)

    def as_json(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "detail": self.detail}}


class NotFound(AppError):
    status_code, code, message = 404, "not_found", "There is nothing at this address."


class NotSignedIn(AppError):
    status_code, code = 401, "not_signed_in"
    message = "Send the token as `Authorization: Bearer TOKEN`; `trainctl token` prints it."


class Forbidden(AppError):
    status_code, code, message = 403, "forbidden", "This token or origin may not do that."


class Conflict(AppError):
    status_code, code, message = 409, "state_forbids", "The state it is in forbids that."


class Fenced(Conflict):
    code, message = "fenced", "This attempt does not hold the job any more."


class TooLarge(AppError):
    status_code, code, message = 413, "too_large", "This is larger than the control center takes."


class WrongInput(AppError):
    """Wrong fields, all at once: `detail` is a list of {"field", "message"}."""

    status_code, code, message = 422, "wrong_input", "Some fields are wrong."


class DiskFull(AppError):
    status_code, code = 507, "disk_full"
    message = "The disk is full: free some space in the data directory and send it again."


def wrong_field(field: str, message: str) -> WrongInput:
    """The error for a single wrong field."""
    return WrongInput(f"{field}: {message}", [{"field": field, "message": message}])
