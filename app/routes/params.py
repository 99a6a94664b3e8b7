"""Parameters that several routes share: paging, and who it is that asks."""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from app.deeds import COMMAND
from app.errors import wrong_field
from app.services.base_models import BaseModels
from app.space import Disk
from app.storage import Storage

Limit = Annotated[int, Query(ge=1, le=500, description="at most so many items")]
Cursor = Annotated[int | None, Query(ge=0, le=2**62, description="`next` of the page before")]


def page_of(rows: Sequence[Any], views: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of a list; `next` is the cursor of the page after it, or null at the end."""
    return {"items": views, "next": rows[-1].id if len(rows) == limit else None}


def _who(request: Request) -> str:
    """Who asks, as the job's history names them: by what, and from which machine where it is another one.

    All who work with a control center hold the same token, so in a lab the address tells them apart.
    """
    is_command = request.headers.get("user-agent", "").startswith(f"{COMMAND}/")
    told = "page" if not request.headers.get("authorization") else COMMAND if is_command else "api"
    return f"{told} from {request.client.host}" if request.client and _is_afar(request.client.host) else told


def _is_afar(host: str) -> bool:
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False


def _storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


def _disk(request: Request) -> Disk:
    disk: Disk = request.app.state.disk
    return disk


def _models(request: Request) -> BaseModels:
    models: BaseModels = request.app.state.base_models
    return models


async def _json_body(request: Request) -> Any:
    """The body as JSON, whatever type it was sent under: curl -d names another one."""
    try:
        return json.loads(await request.body() or b"null")
    except (ValueError, RecursionError):
        raise wrong_field("body", "is not JSON") from None


JsonBody = Annotated[Any, Depends(_json_body)]
Who = Annotated[str, Depends(_who)]
StorageDep = Annotated[Storage, Depends(_storage)]
DiskDep = Annotated[Disk, Depends(_disk)]
ModelsDep = Annotated[BaseModels, Depends(_models)]
