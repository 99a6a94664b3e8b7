"""Addresses of the contract whose work is not built yet: refused by name, so that nobody looks for a typing error."""

from fastapi import APIRouter, Request

from app.errors import NotFound

NOT_YET = {
    ("POST", "/api/datasets/{dataset_id}/versions"): "Repairing a dataset into a new version",
    ("GET", "/api/datasets/{dataset_id}/diff"): "The difference between versions of a dataset",
}


class NotBuiltYet(NotFound):
    code = "not_built_yet"


router = APIRouter(include_in_schema=False)


def _refuse(request: Request) -> None:
    what = NOT_YET[request.method, request.scope["route"].path]
    raise NotBuiltYet(f"{what} is not built in this version yet.")


for _method, _path in NOT_YET:
    router.add_api_route(_path, _refuse, methods=[_method])
