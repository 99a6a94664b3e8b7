"""Which records of a dataset a page is about: a text, a kind of finding, a severity; and the list of them."""

from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field
from sqlmodel import Session

from app.services import datasets, search
from app.storage import Storage

PAGE_SIZE = 25


class Filter(BaseModel):
    """Which records are looked at."""

    q: str = Field("", max_length=200)
    kind: str = ""
    severity: str = ""

    @property
    def wanted(self) -> search.Wanted:
        return search.Wanted(self.q, self.kind or None, self.severity or None)

    @property
    def query(self) -> str:
        """What of it differs from the usual, as the end of an address."""
        asked = urlencode(self.model_dump(exclude_defaults=True, exclude={"end", "after"}))
        return f"?{asked}" if asked else ""


class Search(Filter):
    after: str | None = None


def hits(session: Session, storage: Storage, dataset_id: int, asked: Search) -> dict[str, Any]:
    """What the list of records shows."""
    dataset = datasets.get(session, dataset_id)
    path = datasets.lines_path(storage, dataset)
    found: list[dict[str, Any]] = []
    behind = None
    if path.is_file():
        found, behind = search.page(session, path, dataset_id, asked.wanted, asked.after, PAGE_SIZE)
    kept = asked.model_copy(update={"after": None})
    start = f"{kept.query}&" if kept.query else "?"
    more = f"/datasets/{dataset_id}{start}after={behind}" if behind else None
    return {"dataset": datasets.view(dataset), "hits": found, "asked": kept, "more_url": more, "later": asked.after}
