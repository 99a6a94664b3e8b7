"""Curves of a job: one entry a step, thinned so that every spike stays."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.hub import iso
from app.models import Event, Metric
from app.services import jobs, rollups

COLUMNS = ("step", "loss", "learning_rate", "grad_norm", "num_tokens", "num_targets", "tokens_per_s", "step_s", "epoch")
NAMES = (*COLUMNS, "at", "attempt")
TELEMETRY_EXTREMES = ("vram_used", "ram_used", "temperature")
TELEMETRY = (
    "vram_used",
    "vram_total",
    "gpu_util",
    "temperature",
    "power",
    "ram_used",
    "ram_total",
    "cpu_util",
    "disk_free",
)


def read(
    session: Session,
    job_id: int,
    from_step: int | None,
    to_step: int | None,
    max_points: int,
    telemetry: bool = True,
) -> dict[str, Any]:
    """Columns of the steps asked for, at most `max_points` of them, with evaluations and telemetry beside them."""
    jobs.get(session, job_id)
    rows = _rows(session, job_id, from_step, to_step, max_points)
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}
    columns["eval"] = _evaluations(session, job_id, from_step, to_step)
    return columns | ({"telemetry": _telemetry(session, job_id, max_points)} if telemetry else {})


def _rows(
    session: Session, job_id: int, from_step: int | None, to_step: int | None, max_points: int
) -> Sequence[Sequence[Any]]:
    """All steps where they are no more than `max_points`, else those that the roll-ups name."""
    bounds = rollups.bounds(session, job_id, from_step, to_step)
    if bounds is None:
        return []
    query = select(*[getattr(Metric, name) for name in NAMES])
    query = query.where(Metric.job_id == job_id).order_by(col(Metric.step))
    within = query.where(col(Metric.step).between(*bounds))
    counted = within.with_only_columns(Metric.step).limit(min(max_points, 2**31) + 1).subquery()
    if session.connection().execute(select(func.count()).select_from(counted)).scalar_one() <= max_points:
        return list(session.exec(within))
    steps = func.json_each(json.dumps(sorted(rollups.extremes(session, job_id, *bounds, max_points))))
    wanted = steps.table_valued("value")
    # Not `within`: given a range as well, SQLite walks through all of it instead of going to each step by the key.
    return list(session.exec(query.where(col(Metric.step).in_(wanted.select()))))


def thin(rows: Sequence[Sequence[Any]], extremes: Sequence[int], max_points: int) -> list[int]:
    """Indices of at most `max_points` rows; of each bucket the least and the greatest of the columns named stay.

    A bucket holds two extremes a column. Where there is room for less than one full bucket, the first column decides.
    """
    if len(rows) <= max_points:
        return list(range(len(rows)))
    while len(extremes) > 1 and max_points < 2 * len(extremes):
        extremes = extremes[:-1]
    if max_points < 2:
        return [max(range(len(rows)), key=lambda i: _key(rows[i][extremes[0]]))]
    num_buckets = max_points // (2 * len(extremes))
    kept: set[int] = set()
    for bucket in range(num_buckets):
        first, beyond = bucket * len(rows) // num_buckets, (bucket + 1) * len(rows) // num_buckets
        for column in extremes:
            values = [i for i in range(first, beyond) if rows[i][column] is not None]
            if values:
                kept.add(min(values, key=lambda i: rows[i][column]))
                kept.add(max(values, key=lambda i: rows[i][column]))
            elif first < beyond:
                kept.add(first)
    return sorted(kept)


def _key(value: Any) -> float:
    return float("-inf") if value is None else value


def _evaluations(session: Session, job_id: int, from_step: int | None, to_step: int | None) -> dict[str, list[Any]]:
    query = select(Event.step, Event.data).where(Event.job_id == job_id, Event.kind == "eval")
    query = query.where(col(Event.superseded).is_(False)).order_by(col(Event.id))
    if from_step is not None:
        query = query.where(col(Event.step) >= from_step)
    if to_step is not None:
        query = query.where(col(Event.step) <= to_step)
    by_step = {step or 0: data.get("loss") for step, data in session.exec(query)}
    steps = sorted(by_step)
    return {"step": steps, "loss": [by_step[step] for step in steps]}


def _telemetry(session: Session, job_id: int, max_points: int) -> dict[str, list[Any]]:
    query = select(Event.at, Event.data).where(Event.lane_job_id == job_id, Event.kind == "telemetry")
    found = session.exec(query.order_by(col(Event.id)))
    rows = [(iso(at), *(data.get(name) for name in TELEMETRY)) for at, data in found]
    kept = [rows[i] for i in thin(rows, [1 + TELEMETRY.index(name) for name in TELEMETRY_EXTREMES], max_points)]
    return {name: [row[i] for row in kept] for i, name in enumerate(("at", *TELEMETRY))}


def of_kind(
    session: Session, job_id: int, kind: str, limit: int | None = None, after: int | None = None
) -> list[Event]:
    """Events of one kind that no later attempt superseded, oldest first."""
    query = select(Event).where(Event.job_id == job_id, Event.kind == kind, col(Event.superseded).is_(False))
    return list(session.exec(query.where(col(Event.id) > (after or 0)).order_by(col(Event.id)).limit(limit)))


def log_text(session: Session, job_id: int) -> str:
    """The job's log: a line each, with its time and level."""
    jobs.get(session, job_id)
    lines = []
    for event in of_kind(session, job_id, "log"):
        lines.append(f"{iso(event.at)} {str(event.data.get('level', 'info')).upper():7} {event.data.get('text', '')}")
    return "\n".join(lines) + ("\n" if lines else "")
