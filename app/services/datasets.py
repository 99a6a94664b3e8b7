"""Datasets: received, checked by a child process, listed with what was found."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, delete, select

from app.conversations.lints.kinds import KINDS, SEVERITIES
from app.errors import NotFound, wrong_field
from app.hub import iso
from app.models import Dataset, Finding
from app.services import attempts, events, ids, trash
from app.services.trashed import shown
from app.storage import Received, Storage, plain_name

NUM_REASONS = 3
CHECKED = ("ready", "refused")
LOST = "Its file is not here, as after a restore from a backup without files: send the same file again."


def receive(
    session: Session, storage: Storage, received: Received, name: str, reading: dict[str, Any] | None = None
) -> tuple[Dataset, bool]:
    """The dataset of a received file, and whether its bytes were here already; it stays as it is then."""
    known = session.exec(select(Dataset).where(Dataset.sha256 == received.sha256)).first()
    if known is not None and known.state != "failed" and storage.dataset(received.sha256).exists():
        received.drop()
        trash.restore(session, known, "upload")
        return known, True
    received.keep(storage.dataset(received.sha256))
    dataset = known or Dataset(id=ids.fresh(session, Dataset), name="", sha256=received.sha256, size=received.size)
    dataset.name = plain_name(name, f"dataset-{received.sha256[:8]}.jsonl")
    dataset.state, dataset.error, dataset.progress, dataset.trashed_at = "checking", None, 0.0, None
    dataset.reading = reading or dataset.reading
    session.add(dataset)
    session.flush()
    announce(session, dataset)
    return dataset, False


def announce(session: Session, dataset: Dataset) -> None:
    short = ("id", "name", "state", "progress", "num_records", "num_valid", "error")
    events.record(session, "dataset", {key: getattr(dataset, key) for key in short})


def get(session: Session, dataset_id: int) -> Dataset:
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset


def page(session: Session, limit: int, after: int | None, trashed: bool = False) -> list[Dataset]:
    """Datasets, newest first; those in the trash, or all others."""
    query = select(Dataset).where(shown(Dataset, trashed)).order_by(col(Dataset.id).desc()).limit(limit)
    return list(session.exec(query.where(col(Dataset.id) < after) if after is not None else query))


def look_for_files(session: Session, storage: Storage) -> None:
    """A dataset without its file waits for it, and its jobs with it; one without its unpacked lines is checked anew."""
    for dataset in session.exec(select(Dataset).where(col(Dataset.state).in_(CHECKED), shown(Dataset, False))):
        if not storage.dataset(dataset.sha256).exists():
            dataset.state, dataset.error = "receiving", LOST
        elif dataset.unpacked and not storage.unpacked(dataset.sha256).exists():
            dataset.state, dataset.progress = "checking", 0.0
        else:
            continue
        session.add(dataset)
        session.flush()
        announce(session, dataset)


def being_checked(session: Session) -> list[Dataset]:
    return list(session.exec(select(Dataset).where(Dataset.state == "checking").order_by(col(Dataset.id))))


def begin_check(session: Session, dataset: Dataset) -> None:
    """Forget what an interrupted check had found."""
    session.exec(delete(Finding).where(col(Finding.dataset_id) == dataset.id))


def lines_path(storage: Storage, dataset: Dataset) -> Path:
    """The file whose lines are the records, as the check, the record view and the trainer read it."""
    return storage.unpacked(dataset.sha256) if dataset.unpacked else storage.dataset(dataset.sha256)


def trained_files(session: Session, storage: Storage, dataset: Dataset) -> list[tuple[Path, str, int]]:
    """(the lines, the name, the id) of the datasets it is compared with; those that are gone are left out."""
    found = [session.get(Dataset, other_id) for other_id in dataset.compared_with or ()]
    others = [one for one in found if one and lines_path(storage, one).exists()]
    dataset.compared_with = [one.id for one in others if one.id is not None] or None
    session.add(dataset)
    return [(lines_path(storage, one), one.name, one.id or 0) for one in others]


def note_unpacked(session: Session, dataset: Dataset, unpacked: dict[str, Any] | None) -> None:
    dataset.unpacked = unpacked
    session.add(dataset)


def add_findings(session: Session, dataset: Dataset, found: Iterable[dict[str, Any]]) -> None:
    keys = ("kind", "severity", "line", "field", "message", "excerpt", "other_line", "other_dataset")
    rows = [{"dataset_id": dataset.id} | {key: one.get(key) for key in keys} for one in found]
    if rows:
        session.execute(insert(Finding), rows)


def note_progress(session: Session, dataset: Dataset, share: float) -> None:
    dataset.progress = min(max(share, 0.0), 1.0)
    session.add(dataset)
    announce(session, dataset)


def judge(session: Session, dataset: Dataset, report: dict[str, Any]) -> None:
    """Ready, or refused where nothing in it can be trained; waiting jobs go on or are cancelled."""
    dataset.num_records, dataset.num_valid = report["num_records"], report["num_valid"]
    dataset.findings, dataset.statistics = report["findings"], report.get("statistics")
    dataset.progress = 1.0
    dataset.state = "ready" if dataset.num_valid else "refused"
    if not dataset.num_valid:
        dataset.error = _first_reasons(session, dataset)
    _settle(session, dataset)


def fail(session: Session, dataset: Dataset, message: str) -> None:
    """The check itself broke down; the same bytes may be sent again."""
    dataset.state, dataset.error = "failed", message
    _settle(session, dataset)


def _settle(session: Session, dataset: Dataset) -> None:
    session.add(dataset)
    session.flush()
    announce(session, dataset)
    attempts.release_waiting(session, dataset)


def _first_reasons(session: Session, dataset: Dataset) -> str:
    query = select(Finding).where(Finding.dataset_id == dataset.id, Finding.severity == "error")
    rows = session.exec(query.order_by(col(Finding.line), col(Finding.id)).limit(NUM_REASONS))
    reasons = " ".join(f"Line {row.line}: {row.message.rstrip('.')}." for row in rows)
    return f"No line of it can be trained. {reasons}".strip()


def findings(
    session: Session, dataset_id: int, kind: str | None, severity: str | None, limit: int, after: int | None
) -> list[Finding]:
    """Findings in the order of their lines; raises `WrongInput` for a kind or a severity that does not exist."""
    get(session, dataset_id)
    require_known(kind, severity)
    query = select(Finding).where(Finding.dataset_id == dataset_id).order_by(col(Finding.id)).limit(limit)
    if kind is not None:
        query = query.where(Finding.kind == kind)
    if severity is not None:
        query = query.where(Finding.severity == severity)
    return list(session.exec(query.where(col(Finding.id) > after) if after is not None else query))


def require_known(kind: str | None, severity: str | None) -> None:
    """Raises `WrongInput` for a kind or a severity that does not exist."""
    if kind is not None and kind not in KINDS:
        raise wrong_field("kind", f"is no kind of finding; there are {', '.join(sorted(KINDS))}")
    if severity is not None and severity not in SEVERITIES:
        raise wrong_field("severity", "must be error, warning or note")


def findings_of_line(session: Session, dataset_id: int, line: int) -> list[dict[str, Any]]:
    rows = session.exec(select(Finding).where(Finding.dataset_id == dataset_id, Finding.line == line))
    return [finding_view(row) for row in rows]


def finding_view(row: Finding) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": row.id,
        "kind": row.kind,
        "severity": row.severity,
        "line": row.line,
        "field": row.field,
        "message": row.message,
        "excerpt": row.excerpt,
        "why": KINDS[row.kind].why if row.kind in KINDS else "",
        "advice": KINDS[row.kind].advice if row.kind in KINDS else "",
    }
    other = {"other_line": row.other_line, "other_dataset": row.other_dataset}
    return view | {key: value for key, value in other.items() if value is not None}


def view(dataset: Dataset) -> dict[str, Any]:
    """The dataset as the contract shows it."""
    return {
        "id": dataset.id,
        "name": dataset.name,
        "state": dataset.state,
        "version": dataset.version,
        "parent_id": dataset.parent_id,
        "made": dataset.made,
        "sha256": dataset.sha256,
        "size": dataset.size,
        "num_records": dataset.num_records,
        "num_valid": dataset.num_valid,
        "findings": dataset.findings,
        "progress": dataset.progress,
        "statistics": dataset.statistics,
        "container": (dataset.unpacked or {}).get("container"),
        "reading": dataset.reading,
        "compared_with": dataset.compared_with,
        "error": dataset.error,
        "created_at": iso(dataset.created_at),
        "trashed_at": iso(dataset.trashed_at),
    }
