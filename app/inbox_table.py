"""The table of the inbox's files, and the states they go through.

settling -> checking -> queued -> training -> archived, with ways out to duplicate, quarantined and failed; `held` is
for a person to mend, `waiting` for something that is not there yet. A row with `becoming` is on its way to an end.
"""

from datetime import datetime

from sqlmodel import Field, SQLModel

from app.columns import moment
from app.models import HELD, JobState

LIVE = ("settling", "waiting", "held", "checking", "queued", "training")
ENDED = ("archived", "duplicate", "quarantined", "failed")
GIVEN_UP = (JobState.FAILED, JobState.CANCELLED)
STATE_OF_JOB = {JobState.QUEUED: "queued", JobState.PAUSED: "queued"} | dict.fromkeys(HELD, "training")


class InboxFile(SQLModel, table=True):
    """A file that was dropped into the inbox.

    `becoming` is the state it enters once it lies at `target` with its papers: a move that broke off is done again.
    """

    id: int | None = Field(default=None, primary_key=True)
    name: str
    place: str | None = None  # where it lies, relative to the inbox; None: not there any more
    size: int
    mtime_ns: int
    state: str = Field(default="settling", index=True)
    reason: str | None = None
    becoming: str | None = None
    target: str | None = None
    again: bool = False  # a person wants it trained, also where the same bytes were trained before
    sha256: str | None = Field(default=None, index=True)
    dataset_id: int | None = Field(default=None, foreign_key="dataset.id", ondelete="SET NULL", index=True)
    job_id: int | None = Field(default=None, foreign_key="job.id", ondelete="SET NULL", index=True)
    seen_at: datetime = moment(nullable=False)
    taken_at: datetime | None = moment()
    ended_at: datetime | None = moment()
    dismissed_at: datetime | None = moment()
