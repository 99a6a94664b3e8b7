"""The exact tokens of a dataset on its page, for a model, a recipe and a length that are chosen there."""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from app.db import Database
from app.errors import Conflict, WrongInput
from app.routes import pages_form, pictures
from app.routes import statistics as numbers
from app.schemas import TINY_MODEL, TrainingConfig
from app.services import recipes
from app.services.base_models import BaseModels
from app.templating import render

router = APIRouter(prefix="/datasets", include_in_schema=False)

NO_RECIPE = ("", "None: default settings")


@dataclass(frozen=True)
class Asked:
    """The fields of the form as they were typed; None where one was not sent."""

    model: str | None
    recipe: str | None
    max_length: str | None

    @property
    def query(self) -> str:
        given = urlencode({name: value for name, value in vars(self).items() if value is not None})
        return f"?{given}" if given else ""

    @property
    def chosen(self) -> numbers.Chosen:
        length = (self.max_length or "").strip()
        own = {"max_length": pages_form.number_of(length)} if length else {}
        return numbers.Chosen((self.model or "").strip() or None, self.recipe, own)


def _asked(model: str | None = None, recipe: str | None = None, max_length: str | None = None) -> Asked:
    return Asked(model, recipe, max_length)


AskedNumbers = Annotated[Asked, Depends(_asked)]


@router.get("/{dataset_id}/_tokens")
async def show_tokens(request: Request, dataset_id: int, asked: AskedNumbers) -> HTMLResponse:
    """Lengths and roles in exact tokens, time and memory; asked for again while they are counted."""
    counted = await count(request, dataset_id, asked)
    return render(request, "datasets/_tokens.html", counted=counted)


async def on_page(request: Request, dataset_id: int, asked: Asked) -> dict[str, Any]:
    """With the page itself where the form was sent without script; else script asks for them."""
    if asked.query:
        return await count(request, dataset_id, asked)
    return await to_thread.run_sync(_form, request, dataset_id, asked) | {"is_asked": False}


async def count(request: Request, dataset_id: int, asked: Asked) -> dict[str, Any]:
    """The form with its numbers, or with the sentence that says why there are none."""
    shown = await to_thread.run_sync(_form, request, dataset_id, asked)
    try:
        told = await numbers.tell(request, dataset_id, asked.chosen)
    except (WrongInput, Conflict) as error:
        wrong, others = pages_form.sort_errors(error.detail or [], shown["form"])
        return shown | {"errors": wrong, "problem": " ".join(others) or ("" if wrong else error.message)}
    drawn = {"histogram": pictures.histogram(told, told["max_length"]), "pictures": pictures.token_pictures(told)}
    return shown | {"told": told, **drawn}


def _form(request: Request, dataset_id: int, asked: Asked) -> dict[str, Any]:
    database: Database = request.app.state.database
    models: BaseModels = request.app.state.base_models
    usual = request.app.state.settings.default_recipe
    with database.read() as session:
        default = recipes.default_name(session, usual)
        names = recipes.names(session)
        recipe = (default or "") if asked.recipe is None else asked.recipe
        kept = recipes.config_of(session, recipe) if recipe in names else {}
    named = [(name, f"{name} (default)" if name == default else name) for name in names]
    # What is no recipe any more stays chosen, so that the sentence about it can be understood.
    unknown = [] if recipe in ("", *names) else [(recipe, recipe)]
    return {
        "dataset_id": dataset_id,
        "url": f"/datasets/{dataset_id}/_tokens{asked.query}",
        "form": {
            "model": models.default or TINY_MODEL if asked.model is None else asked.model,
            "recipe": recipe,
            "max_length": asked.max_length or "",
        },
        "models": models.names(),
        "recipes": [NO_RECIPE, *named, *unknown],
        "usual_length": kept.get("max_length", TrainingConfig().max_length),
        "is_asked": True,
        "errors": {},
        "problem": "",
        "told": None,
    }
