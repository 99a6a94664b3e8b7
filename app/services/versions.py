"""Versions of a dataset: made from a parent by leaving out and mending lines, listed, compared line by line."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from sqlmodel import Session, col, select

from app.conversations.rewriting import Asked, Change, Found
from app.errors import Conflict, NotFound, wrong_field
from app.hub import iso
from app.models import Dataset, Finding
from app.services import datasets
from app.services.trashed import refuse_trashed
from app.storage import Received, Storage, existing

SHOWN_CHARACTERS = 10_000
AT_ONCE = 1000


def parent_for(session: Session, dataset_id: int, asked: Asked) -> Dataset:
    """The dataset to make a version of; raises `WrongInput`, and `Conflict` while it is not ready."""
    dataset = datasets.get(session, dataset_id)
    if problem := asked.problem():
        raise wrong_field(*problem)
    refuse_trashed(dataset)
    if dataset.state != "ready":
        raise Conflict(f"Dataset {dataset_id} is {dataset.state}; a version can be made once it is ready.")
    return dataset


def changes_nothing(dataset: Dataset, asked: Asked) -> bool:
    return not asked.kinds & (dataset.findings or {}).keys()


def made_before(session: Session, dataset: Dataset, asked: Asked) -> Dataset | None:
    """A version that was made from it in the very same way and is still there."""
    query = select(Dataset).where(Dataset.parent_id == dataset.id, col(Dataset.trashed_at).is_(None))
    same = _told(asked) | {"of": _seen(dataset, asked)}
    for one in session.exec(query.where(col(Dataset.state).not_in(("failed", "receiving"))).order_by(col(Dataset.id))):
        if one.made and {key: one.made.get(key) for key in same} == same:
            return one
    return None


def plan(session: Session, dataset: Dataset, asked: Asked) -> Iterator[bytes]:
    """What `app.rewrite` is told of each line."""
    query = select(Finding.line, Finding.kind, Finding.field).where(
        Finding.dataset_id == dataset.id, col(Finding.kind).in_(asked.kinds)
    )
    rows = session.exec(query.order_by(col(Finding.line), col(Finding.id)).execution_options(yield_per=AT_ONCE))
    for line, same_line in groupby(rows, key=lambda row: row[0]):
        places = [(kind, field or "") for _, kind, field in same_line]
        yield msgspec.json.encode(Found(line, places)) + b"\n"


def store(
    session: Session, storage: Storage, parent_id: int, asked: Asked, name: str, made: dict[str, Any]
) -> tuple[Dataset, bool]:
    """The new dataset of what `app.rewrite` told, and whether there is one with these bytes already."""
    parent = parent_for(session, parent_id, asked)
    received, changes = Received(Path(made["path"]), made["size"], made["sha256"]), made["changes"]
    if not received.size:
        raise wrong_field("exclude", "nothing would be left of the dataset")
    stem = parent.name.split(".", 1)[0] or "dataset"
    dataset, known = datasets.receive(session, storage, received, name or f"{stem}-v{parent.version + 1}.jsonl")
    if known:
        return dataset, True
    Received(Path(changes["path"]), changes["size"], changes["sha256"]).keep(storage.changes(received.sha256))
    dataset.parent_id, dataset.version = parent.id, parent.version + 1
    dataset.compared_with = parent.compared_with
    kept = {"size": changes["size"], "sha256": changes["sha256"]}
    dataset.made = _told(asked) | {"of": _seen(parent, asked), "counts": made["counts"], "changes": kept}
    session.add(dataset)
    session.flush()
    return dataset, False


def _told(asked: Asked) -> dict[str, Any]:
    return {"exclude": sorted(asked.exclude), "repair": sorted(asked.repair)}


def _seen(parent: Dataset, asked: Asked) -> dict[str, Any]:
    """What a version follows from beside the bytes: how they were read, and what was found then."""
    found = {kind: number for kind, number in (parent.findings or {}).items() if kind in asked.kinds}
    return {"reading": parent.reading, "compared_with": parent.compared_with, "findings": found}


def family(session: Session, dataset_id: int) -> list[Dataset]:
    """The dataset, those it was made from, and all that were made from any of these, oldest first."""
    dataset = datasets.get(session, dataset_id)
    while dataset.parent_id is not None:
        dataset = datasets.get(session, dataset.parent_id)
    found, newest = [dataset], [dataset.id]
    while newest:
        children = list(session.exec(select(Dataset).where(col(Dataset.parent_id).in_(newest))))
        found, newest = found + children, [one.id for one in children]
    return sorted(found, key=lambda one: one.id or 0)


def view(dataset: Dataset) -> dict[str, Any]:
    """One of the list of versions."""
    made = dataset.made or {}
    keys = ("id", "name", "state", "version", "parent_id", "num_records", "num_valid", "findings")
    shown = {key: getattr(dataset, key) for key in keys}
    told = {"exclude": made.get("exclude", []), "repair": made.get("repair", []), "counts": made.get("counts", {})}
    return shown | told | {"created_at": iso(dataset.created_at)}


def diff(session: Session, storage: Storage, dataset_id: int, limit: int, after: int) -> list[dict[str, Any]]:
    """What was changed of its parent's lines after that one; raises `NotFound` where it has no parent."""
    dataset = datasets.get(session, dataset_id)
    if dataset.parent_id is None:
        raise NotFound(f"Dataset {dataset_id} was not made from another one.")
    parent = datasets.get(session, dataset.parent_id)
    made_of = (dataset.made or {}).get("of")
    if parent.state == "checking" or (made_of and made_of["reading"] != parent.reading):
        raise Conflict(f"Dataset {parent.id}, of which this is a version, is read in another way since.")
    old = datasets.lines_path(storage, parent)
    if not old.exists():
        raise NotFound(
            f"Dataset {parent.id}, of which this is a version, was deleted: nothing is left to compare with."
        )
    new, changes = existing(storage.dataset(dataset.sha256)), existing(storage.changes(dataset.sha256))
    found: list[dict[str, Any]] = []
    with old.open("rb") as before, new.open("rb") as now, changes.open("rb") as lines:
        for line in lines:
            change = msgspec.json.decode(line, type=Change)
            if change.line > after:
                found.append(_shown(change, before, now))
            if len(found) == limit:
                break
    return found


def _shown(change: Change, before: BinaryIO, now: BinaryIO) -> dict[str, Any]:
    kept = {key: getattr(change, key) for key in ("line", "new_line", "action", "kinds")}
    new = None if change.new_line is None else _text(now, change.new_start, change.new_end)
    return kept | {"before": _text(before, change.start, change.end), "after": new}


def _text(file: BinaryIO, start: int, end: int) -> str:
    """The line without its end; a very long one is cut."""
    file.seek(start)
    text = file.read(min(end - start, 4 * SHOWN_CHARACTERS)).decode("utf-8", "replace").rstrip("\r\n")
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
