"""Versions of a dataset on its page: made by the form, and what one changed word by word."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app import versioning
from app.db import DatabaseDep
from app.errors import Conflict, WrongInput, wrong_field
from app.routes import pages_data as data
from app.routes.pages_back import FormRefused, lead_back
from app.routes.params import Cursor, StorageDep
from app.services import datasets, versions
from app.templating import render
from app.versioning import NewVersion

router = APIRouter(prefix="/datasets", include_in_schema=False)

PAGE_SIZE = 20
PREFIX = "kind."
WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
MOST_WORDS = 500  # compared one by one between the first and the last change; comparing costs their square
KEPT = 120  # characters shown of what did not change, at each side of a change
MOST_SHOWN = 1200  # characters of a line that went as a whole


class Piece(NamedTuple):
    kind: Literal["same", "gone", "new"]
    text: str


@router.post("/{dataset_id}/versions")
async def make_version(request: Request, dataset_id: int) -> RedirectResponse:
    """What the form chose for each kind: keep, exclude or repair."""
    async with request.form() as sent:
        chosen = {name.removeprefix(PREFIX): str(value) for name, value in sent.items() if name.startswith(PREFIX)}
        name = str(sent.get("name") or "").strip()[:200]
    exclude, repair = ([kind for kind, what in chosen.items() if what == wanted] for wanted in ("exclude", "repair"))
    try:
        if not exclude and not repair:
            raise wrong_field("exclude", "choose Exclude or Repair for at least one kind of finding")
        new = NewVersion(exclude=exclude, repair=repair, name=name or None)
        made = await versioning.begin(request.app.state, dataset_id, new)
    except (WrongInput, Conflict) as error:
        raise FormRefused(dataset_id, error, chosen=chosen, version_name=name) from None
    return RedirectResponse(f"/datasets/{made.id}", 303)


lead_back(router, "/{dataset_id}/versions", "/datasets/{dataset_id}")


@router.get("/{dataset_id}/diff")
def show_diff(
    request: Request, database: DatabaseDep, storage: StorageDep, dataset_id: int, after: Cursor = None
) -> HTMLResponse:
    """What the version changed of its parent."""
    with database.read() as session:
        found = versions.diff(session, storage, dataset_id, PAGE_SIZE, after or 0)
        dataset = datasets.get(session, dataset_id)
        parent = datasets.view(datasets.get(session, dataset.parent_id or 0))
        context = {"dataset": versions.view(dataset), "parent": parent, **data.shell(session)}
    changes = [one | {"pieces": compare(one["before"], one["after"])} for one in found]
    more = f"/datasets/{dataset_id}/diff?after={found[-1]['line']}" if len(found) == PAGE_SIZE else None
    return render(request, "datasets/diff.html", changes=changes, next_url=more, **context)


def compare(before: str, after: str | None) -> list[Piece]:
    """The two texts as one, with what went and what came; what stayed is shortened."""
    if after is None:
        return [Piece("gone", before[:MOST_SHOWN] + ("..." if len(before) > MOST_SHOWN else ""))]
    old, new = WORD.findall(before), WORD.findall(after)
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    gone, came = old[head : len(old) - tail], new[head : len(new) - tail]
    first, last = "".join(old[:head]), "".join(old[len(old) - tail :])
    pieces = [
        Piece("same", _shortened(first, tail=True, head=False)),
        *_changes(gone, came),
        Piece("same", _shortened(last)),
    ]
    return [piece for piece in pieces if piece.text]


def _common(one: list[str], other: list[str]) -> int:
    """How many words at their start are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _changes(old: list[str], new: list[str]) -> list[Piece]:
    if max(len(old), len(new)) > MOST_WORDS:
        return [Piece("gone", "".join(old)[:MOST_SHOWN]), Piece("new", "".join(new)[:MOST_SHOWN])]
    found: list[Piece] = []
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            found.append(Piece("same", _shortened("".join(old[a:b]), tail=True)))
        else:
            found += [Piece("gone", "".join(old[a:b])), Piece("new", "".join(new[c:d]))]
    return found


def _shortened(text: str, tail: bool = False, head: bool = True) -> str:
    """What stands before the next change (its tail) and behind the last one (its head)."""
    if len(text) <= 2 * KEPT:
        return text
    return f"{text[:KEPT] if head else ''} ... {text[-KEPT:] if tail else ''}"
