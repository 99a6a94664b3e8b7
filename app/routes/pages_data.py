"""What the pages show beyond the views of the API: read once, in one session, and put into plain dicts."""

from typing import Any

from fastapi import Request
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.conversations.containers.reading import SHAPE_KEYS
from app.hub import event_json
from app.models import HELD, Attempt, Dataset, Event, Job, JobState, Lane
from app.services import (
    adapters,
    black_boxes,
    checkpoints,
    datasets,
    events,
    guardian,
    job_lists,
    jobs,
    metrics,
    nodes,
    opening,
)
from app.services.trashed import as_told
from app.templating import STATE_WORDS

NUM_RECENT = 6
NUM_WAITING = 20
NUM_LOG_LINES = 300
NUM_TELEMETRY = 120
MAX_OTHERS = 100
MAX_POINTS = 2000
HISTORY_COLUMNS = ("step", "loss", "learning_rate", "grad_norm")
ALL_TOPICS = "state,queue,node,telemetry,dataset"
STATES = {str(state): STATE_WORDS[state] for state in JobState}
NO_TELEMETRY = dict.fromkeys(metrics.TELEMETRY)


def stream_url(session: Session, topics: str = ALL_TOPICS, job_ids: list[int] | None = None) -> str:
    """Address of the page's stream, which starts where the page was read."""
    followed = f"&jobs={','.join(map(str, job_ids))}" if job_ids else ""
    return f"/api/events?topics={topics}{followed}&after={events.newest_id(session)}"


def shell(session: Session) -> dict[str, Any]:
    """What every page needs: the lanes for its meter, and its stream."""
    return {"lanes": lanes(session), "stream": stream_url(session)}


def lanes(session: Session) -> list[dict[str, Any]]:
    """Every lane with the node it belongs to and the job it holds; telemetry keys are always there."""
    found = []
    for node in nodes.every(session):
        view = nodes.view(session, node)
        for lane in view["lanes"]:
            job = session.get(Job, lane["job_id"]) if lane["job_id"] else None
            own = {
                "node": node.name,
                "node_id": node.id,
                "key": f"{node.name}/{lane['name']}",
                "title": lane_title(lane),
                "telemetry": NO_TELEMETRY | (lane["telemetry"] or {}),
                "job": {"id": job.id, "name": job.name} if job else None,
            }
            found.append(lane | own)
    return found


def past_telemetry(session: Session) -> list[list[dict[str, Any]]]:
    """What the instruments of each lane showed in the last minutes, oldest first."""
    found = []
    for lane in session.exec(select(Lane)):
        query = select(Event).where(Event.kind == "telemetry", Event.lane_id == lane.id).order_by(col(Event.id).desc())
        found.append([event_json(event) for event in reversed(list(session.exec(query.limit(NUM_TELEMETRY))))])
    return found


def best_marked(kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checkpoints with `best` at the one that is the best of those kept, not at each that once was."""
    scored = [one for one in kept if one["eval_loss"] is not None]
    best = min(scored, key=lambda one: (one["eval_loss"], one["step"]), default=None)
    return [one | {"best": one is best} for one in kept]


def lane_title(lane: dict[str, Any]) -> str:
    """A lane by its hardware: RTX 4090, 2 x H200, or CPU."""
    names = [str(gpu.get("name", "GPU")).removeprefix("NVIDIA ").removeprefix("GeForce ") for gpu in lane["gpus"]]
    if not names:
        return str(lane["name"]).upper() if lane["kind"] == "cpu" else str(lane["name"])
    return names[0] if len(names) == 1 else f"{len(names)} × {names[0]}"


def job_card(session: Session, job: Job) -> dict[str, Any]:
    """A job's view with the names of its datasets, and how long it was worked on."""
    return job_cards(session, [job])[0]


def job_cards(session: Session, rows: list[Job]) -> list[dict[str, Any]]:
    named = select(Dataset.id, Dataset.name).where(col(Dataset.id).in_({job.dataset_id for job in rows}))
    names, took = dict(session.exec(named).all()), worked_seconds(session, rows)
    views = [as_told(view) for view in jobs.views(session, rows)]
    return [
        view | {"datasets": [_named(names, job.dataset_id)], "took_s": took.get(job.id)}
        for job, view in zip(rows, views, strict=True)
    ]


def worked_seconds(session: Session, rows: list[Job]) -> dict[int | None, float]:
    """Seconds of all attempts of each job, without what lay between; none for one that never began."""
    query = select(Attempt).where(col(Attempt.job_id).in_([job.id for job in rows]))
    took: dict[int | None, float] = {}
    for one in session.exec(query):
        took[one.job_id] = took.get(one.job_id, 0.0) + ((one.ended_at or utc_now()) - one.started_at).total_seconds()
    return took


def _named(names: dict[int | None, str], dataset_id: int) -> dict[str, Any]:
    return {"id": dataset_id, "name": names.get(dataset_id, f"dataset {dataset_id}")}


def job_rows(session: Session, rows: list[Job]) -> list[dict[str, Any]]:
    """Views as lines of a table: each with a small curve and its best evaluation."""
    best = job_lists.best_losses(session, [job.id for job in rows if job.id])
    small, cards = job_lists.small_curves(session, rows), job_cards(session, rows)
    return [card | {"curve": small.get(card["id"], []), "best": best.get(card["id"])} for card in cards]


def curves(session: Session, job: Job) -> dict[str, Any]:
    """The history that a chart starts from, and the figures beside it."""
    assert job.id is not None
    columns = metrics.read(session, job.id, None, None, MAX_POINTS, telemetry=False)
    history: dict[str, Any] = {name: [fewer_digits(one) for one in columns[name]] for name in HISTORY_COLUMNS}
    history |= {"eval": columns["eval"], "num_steps": job.num_steps}
    return {"history": history, "summary": summary(columns), "waiting": waiting_words(job)}


def fewer_digits(value: float | int | None) -> float | int | None:
    """Five digits are more than a chart can show, and halve the page."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def summary(columns: dict[str, Any]) -> dict[str, Any]:
    last = {name: values[-1] if values else None for name, values in columns.items() if isinstance(values, list)}
    pairs = zip(columns["eval"]["loss"], columns["eval"]["step"], strict=True)
    best, best_step = min((pair for pair in pairs if pair[0] is not None), default=(None, None))
    rate = f"{1 / last['step_s']:.3g} steps/s" if last["step_s"] else ""
    return last | {"best": best, "best_step": best_step, "rate": rate}


def waiting_words(job: Job) -> str:
    if job.state in (JobState.QUEUED, JobState.CLAIMED, JobState.RUNNING):
        return "The first point appears after the first step."
    return "No step was made."


def log_lines(session: Session, job_id: int) -> list[dict[str, Any]]:
    """The newest lines of the log, oldest of them first."""
    query = select(Event).where(Event.job_id == job_id, Event.kind == "log", col(Event.superseded).is_(False))
    newest = session.exec(query.order_by(col(Event.id).desc()).limit(NUM_LOG_LINES))
    return [{"level": "info", "text": ""} | event_json(event) for event in reversed(list(newest))]


def samples(session: Session, job_id: int) -> list[dict[str, Any]]:
    """The newest answer to each sample question."""
    blank = {"prompt": "", "answer": "", "base_answer": None, "wanted": None, "step": 0}
    newest = {event.data.get("prompt_id"): blank | event.data for event in metrics.of_kind(session, job_id, "sample")}
    return list(newest.values())


def phase_message(session: Session, job_id: int) -> str:
    query = select(Event).where(Event.job_id == job_id, Event.kind == "state").order_by(col(Event.id).desc())
    newest = session.exec(query).first()
    return str(newest.data.get("message") or "") if newest else ""


def can_resume(job: Job, kept: list[dict[str, Any]]) -> bool:
    return job.state == JobState.PAUSED or (job.state in (JobState.FAILED, JobState.CANCELLED) and bool(kept))


def job_page(session: Session, job_id: int) -> dict[str, Any]:
    """Everything the page of a job shows."""
    job = jobs.get(session, job_id)
    own = {
        "log": log_lines(session, job_id),
        "samples": samples(session, job_id),
        "advice": guardian.newest(session, job_id),
        "black_box": black_boxes.newest(session, job_id),
        "stream": stream_url(session, "queue,telemetry", [job_id]),
    }
    return job_head(session, job_id) | curves(session, job) | own


def memory_of(job: dict[str, Any]) -> dict[str, Any] | None:
    """What a job was planned or is expected to need, by part, and the most that it used; None where nobody knows."""
    resolved, expected = job["resolved"], (job["estimate"] or {}).get("memory") or {}
    parts = resolved.get("memory") or expected
    if not parts.get("total"):
        return None
    whole = {"available": parts.get("usable", parts.get("available")), "measured": resolved.get("measured_peak")}
    return {**parts, **whole, "planned": "memory" in resolved}


def job_head(session: Session, job_id: int) -> dict[str, Any]:
    job = jobs.get(session, job_id)
    kept, all_lanes, card = best_marked(checkpoints.view_all(session, job_id)), lanes(session), job_card(session, job)
    return {
        "job": card,
        "memory": memory_of(card),
        "checkpoints": kept,
        "can_resume": can_resume(job, kept),
        "phase_message": phase_message(session, job_id),
        "lanes": all_lanes,
        "lane": next((one for one in all_lanes if one["key"] == card["lane"]), None),
    }


def held_jobs(session: Session) -> list[Job]:
    query = select(Job).where(col(Job.state).in_(HELD)).order_by(col(Job.state).desc(), col(Job.id))
    return list(session.exec(query))


def counts(session: Session) -> dict[str, int]:
    return {"num_active": len(held_jobs(session)), "num_queued": jobs.num_queued(session)}


def hero(session: Session) -> dict[str, Any]:
    """The job shown large, running before preparing; None where no lane holds one."""
    held = held_jobs(session)
    queued = jobs.in_queue_order(session, limit=NUM_WAITING)
    ids = [job.id for job in [*held, *queued][:NUM_WAITING] if job.id]
    found: dict[str, Any] = {
        "hero": job_card(session, held[0]) if held else None,
        "queue": job_cards(session, queued),
        "closed": opening.read(session).closed(utc_now()),
        "stream": stream_url(session, job_ids=ids),
    }
    return found | curves(session, held[0]) if held else found


def recent(session: Session) -> list[dict[str, Any]]:
    """Jobs no lane holds and no queue: those that ended or pause, newest end first."""
    idle = [state for state in JobState if state not in HELD and state != JobState.QUEUED]
    query = (
        select(Job)
        .where(col(Job.state).in_(idle), col(Job.trashed_at).is_(None))
        .order_by(col(Job.ended_at).desc(), col(Job.id).desc())
    )
    return job_rows(session, list(session.exec(query.limit(NUM_RECENT))))


def dashboard(session: Session) -> dict[str, Any]:
    own = {"lanes": lanes(session), "past": past_telemetry(session), "recent": recent(session)}
    return own | counts(session) | hero(session)


def is_new(session: Session) -> bool:
    """Whether nobody has made a job yet."""
    return session.exec(select(Job.id).limit(1)).first() is None


def dataset_views(session: Session, limit: int, after: int | None = None) -> list[dict[str, Any]]:
    return [datasets.view(row) for row in datasets.page(session, limit, after)]


def adapter_views(session: Session, limit: int, after: int | None = None) -> list[dict[str, Any]]:
    return [adapters.view(row) for row in adapters.page(session, limit, after)]


def next_url(request: Request, rows: list[dict[str, Any]], limit: int) -> str | None:
    """Address of the page after this one, with its filters kept."""
    return str(request.url.include_query_params(after=rows[-1]["id"])) if len(rows) == limit else None


def recheck_forms(session: Session, dataset: dict[str, Any]) -> dict[str, Any]:
    """What the forms show that have a dataset checked anew: how it is read, and what it is compared with."""
    compared = dataset["compared_with"] or []
    chosen = [datasets.view(one) for other_id in compared if (one := session.get(Dataset, other_id))]
    newest = [one for one in dataset_views(session, MAX_OTHERS) if one["id"] not in (dataset["id"], *compared)]
    return {
        "reading": dataset["reading_form"],
        "shapes": [("", "As detected"), *((shape, shape.capitalize()) for shape in SHAPE_KEYS)],
        "others": [
            one | {"is_compared": one in chosen}
            for one in (*chosen, *newest)
            if one in chosen or one["state"] == "ready"
        ],
        "num_leaks": (dataset["findings"] or {}).get("leakage", 0),
    }
