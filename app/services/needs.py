"""What a job asks of a lane and of the clock, and which lanes have it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, field_validator
from sqlmodel import Session, col, select

from app.columns import utc_now
from app.models import Lane, Node
from app.schemas import Body
from app.space import human

SILENT_AFTER_S = 15.0
# As cards are sold: 24 GB are 24,000,000,000 bytes, which a card of 24,564 MiB has.
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
LAST_YEAR = 2999  # beyond it, dates can no longer be counted with safely
PLAIN_NUMBER = re.compile(r"[0-9]{1,20}")
WHOLE = re.compile(r"\.0+ ")  # 24.0 GB were asked for as 24 GB
AMOUNT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?i?b)\s*", re.IGNORECASE)
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


def as_moment(value: Any) -> datetime:
    """An ISO time; without a zone it is in UTC, as all times here are."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        if moment.year > LAST_YEAR:
            raise ValueError
        return moment
    except (ValueError, OverflowError, AttributeError, TypeError):
        raise ValueError('must be a time such as "2030-01-31T22:00:00Z"') from None


Moment = Annotated[datetime, BeforeValidator(as_moment)]


class Needs(Body):
    """`needs` of a new job: so many GPUs in one lane, bytes of each, labels, and a node by its name."""

    gpus: int | None = Field(None, ge=0, le=64)
    memory: int | None = Field(None, ge=1, le=2**53)
    labels: list[Label] = Field(default_factory=list, max_length=20)
    node: str | None = Field(None, min_length=1, max_length=200)

    @field_validator("memory", mode="before")
    @classmethod
    def _as_bytes(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if PLAIN_NUMBER.fullmatch(value.strip()):
            return int(value)
        if (found := AMOUNT.fullmatch(value)) is None or found[2].lower() not in UNITS:
            raise ValueError('must be bytes, or an amount such as "24 GB"')
        return round(float(found[1]) * UNITS[found[2].lower()])

    def as_kept(self) -> dict[str, Any] | None:
        """What is asked for alone; None where that is nothing but a lane."""
        return {name: value for name, value in self.model_dump().items() if value} or None


def fits(needs: Mapping[str, Any] | None, lane: Lane, node_name: str) -> bool:
    """Whether the lane has all that is asked for, busy or not."""
    if not needs:
        return True
    memory = needs.get("memory", 0)
    large = sum((gpu.get("memory") or 0) >= memory for gpu in lane.gpus)
    enough = large >= max(needs.get("gpus", 0), 1 if memory else 0)
    return enough and set(needs.get("labels", ())) <= set(lane.labels) and needs.get("node", node_name) == node_name


def describe(needs: Mapping[str, Any] | None) -> str:
    """A lane with all of it, in words: "a lane with 2 GPUs of 24 GB and the label fast on node attic"."""
    needs = needs or {}
    gpus, memory, labels = needs.get("gpus", 0), needs.get("memory", 0), needs.get("labels", [])
    parts = []
    if gpus or memory:
        parts.append(f"{gpus} GPUs" if gpus > 1 else "a GPU")
    if memory:
        parts[-1] += f" of {WHOLE.sub(' ', human(memory))}"
    if labels:
        parts.append(f"the label{'s' if len(labels) > 1 else ''} {', '.join(labels)}")
    where = f" on node {needs['node']}" if "node" in needs else ""
    return "a lane" + (f" with {' and '.join(parts)}" if parts else "") + where


def is_silent(lane: Lane) -> bool:
    return utc_now() - lane.last_seen_at > timedelta(seconds=SILENT_AFTER_S)


def registered_lanes(session: Session) -> list[tuple[Lane, str]]:
    """Every lane of a node that has not left, with the node's name."""
    here = (Lane.node_id == Node.id, col(Node.left_at).is_(None), col(Lane.left_at).is_(None))
    query = select(Lane, Node.name).where(*here)
    return [(lane, name) for lane, name in session.exec(query.order_by(col(Lane.id)))]


def missing_lane(needs: Mapping[str, Any] | None, lanes: Sequence[tuple[Lane, str]]) -> str | None:
    """Why no lane could take the job even if it were idle; None where one could."""
    fitting = [(lane, name) for lane, name in lanes if fits(needs, lane, name)]
    if not fitting:
        found = "none of the registered lanes has that" if lanes else "none is registered"
        return f"waits for {describe(needs)}; {found}"
    if any(not is_silent(lane) and not lane.draining for lane, _ in fitting):
        return None
    lane, name = next((pair for pair in fitting if not is_silent(pair[0])), fitting[0])
    why = "is offline" if is_silent(lane) else "takes no new jobs now"
    return f"waits for {describe(needs)}; {name}/{lane.name} has that and {why}"
