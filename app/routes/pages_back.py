"""The way back from a form that was sent: the address of its page, and what was wrong as a sentence."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from app.errors import AppError

LABELS = {"fields": "Keys", "shape": "Shape", "datasets": "Training data", "name": "Name", "exclude": "", "repair": ""}


class FormRefused(Exception):
    """A form of a dataset's page that cannot be carried out; the page says so, and keeps what was `sent` by it."""

    def __init__(self, dataset_id: int, error: AppError, **sent: Any) -> None:
        self.dataset_id, self.error, self.sent = dataset_id, error, sent


def lead_back(router: APIRouter, path: str, to: str) -> None:
    """A form's address that is opened or reloaded as a page leads to the page of the form."""

    def go(request: Request) -> RedirectResponse:
        return RedirectResponse(to.format(**request.path_params), 303)

    router.add_api_route(path, go, methods=["GET"], include_in_schema=False, response_model=None)


def sentence(error: AppError) -> str:
    """What was wrong, with the fields as the page names them."""
    if not isinstance(error.detail, list):
        return error.message
    said = [f"{LABELS.get(one['field'], one['field'])} {one['message']}".strip() for one in error.detail]
    return " ".join(f"{one[:1].upper()}{one[1:].removesuffix('.')}." for one in said) or error.message
