"""Whether lanes may claim now: a person may pause the whole queue, and there may be quiet hours."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationError, field_validator
from sqlmodel import Session

from app.columns import utc_now
from app.hub import iso
from app.schemas import Body
from app.services import settings

QUEUE = "queue"
logger = logging.getLogger(__name__)
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_CLOSED = timedelta(days=8)  # what is quiet for a week is quiet for ever
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _is_clock(value: str) -> str:
    if not CLOCK.fullmatch(value):
        raise ValueError('must be a time of day such as "22:00"')
    return value


TimeOfDay = Annotated[str, AfterValidator(_is_clock)]


class QuietHours(Body):
    """From one time of day to another, which may lie on the next day; `days` are those on which they begin."""

    days: list[Day] = Field(default_factory=lambda: list(DAYS), min_length=1, max_length=7)
    begin: TimeOfDay = Field(alias="from")
    end: TimeOfDay = Field(alias="to")
    time_zone: str | None = Field(None, max_length=100)  # None: that of the machine of the control center

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        try:
            return ZoneInfo(value).key if value else None
        except (KeyError, ValueError, OSError):
            raise ValueError("is not a time zone such as Europe/Paris") from None

    def over_at(self, at: datetime) -> datetime | None:
        """When these hours are over, in their time zone; None where `at` lies outside them."""
        zone = ZoneInfo(self.time_zone) if self.time_zone else None
        here = at.astimezone(zone)
        for day in (here.date(), here.date() - timedelta(days=1)):
            begin, end = self._on(day, zone)
            # Compared in UTC: two times of one zone are compared by what the clock shows, which it may show twice.
            if DAYS[day.weekday()] in self.days and begin <= at.astimezone(UTC) < end:
                return end.astimezone(zone)
        return None

    def _on(self, day: date, zone: ZoneInfo | None) -> tuple[datetime, datetime]:
        """In UTC. Where clocks show a time twice, the hours begin at the first and end at the second."""
        first, last = time.fromisoformat(self.begin), time.fromisoformat(self.end)
        begin, end = datetime.combine(day, first), datetime.combine(day + timedelta(days=last <= first), last)
        return _in_utc(begin, zone), max(_in_utc(end.replace(fold=fold), zone) for fold in (0, 1))


def _in_utc(shown: datetime, zone: ZoneInfo | None) -> datetime:
    return (shown.replace(tzinfo=zone) if zone else shown).astimezone(UTC)


def _clock(moment: datetime, now: datetime) -> str:
    """The time with its zone, and the day where it is not the next time that the clock shows it."""
    return f"{moment:{'%H:%M' if moment - now <= timedelta(days=1) else '%a %H:%M'}} {moment.tzinfo}"


class Change(Body):
    """The body of `PUT /api/queue`; what is left out stays as it is."""

    paused: bool | None = None
    quiet_hours: list[QuietHours] | None = Field(None, max_length=50)


@dataclass(frozen=True)
class Opening:
    """What was set, by whom and when."""

    paused: bool = False
    quiet_hours: Sequence[QuietHours] = ()
    changed_by: str | None = None
    changed_at: datetime | None = None

    def quiet_until(self, at: datetime) -> datetime | None:
        ends = [end for hours in self.quiet_hours if (end := hours.over_at(at)) is not None]
        return max(ends, default=None)

    def open_from(self, at: datetime) -> datetime | None:
        """The first moment from `at` on at which a lane may claim; None where nobody can know one."""
        last = at + LONGEST_CLOSED
        while not self.paused and at < last:
            if (end := self.quiet_until(at)) is None:
                return at
            at = end.astimezone(UTC)
        return None

    def closed(self, at: datetime) -> dict[str, Any] | None:
        """Why no lane may claim now, as `waiting_for` says it."""
        if self.paused:
            return {"kind": "queue", "message": "the queue is paused"}
        if (end := self.quiet_until(at)) is None:
            return None
        # Others may begin where these end, and nights on all days may leave no gap at all.
        until = self.open_from(at)
        words = f"quiet hours until {_clock(until.astimezone(end.tzinfo), at)}" if until else "quiet hours at all times"
        return {"kind": "quiet_hours", "until": iso(until), "message": words}


def read(session: Session) -> Opening:
    value, changed_at = settings.read(session, QUEUE)
    if value is None:
        return Opening()
    try:
        hours = [QuietHours.model_validate(one) for one in value["quiet_hours"]]
    except ValidationError:
        # A zone that this machine no longer knows must not stop the whole queue.
        logger.warning("The quiet hours that were set cannot be read and do not count: %s", value["quiet_hours"])
        hours = []
    return Opening(value["paused"], hours, value["changed_by"], changed_at)


def is_open(session: Session) -> bool:
    return read(session).closed(utc_now()) is None


def plain(opening: Opening) -> dict[str, Any]:
    return {"paused": opening.paused, "quiet_hours": [_plain_hours(one) for one in opening.quiet_hours]}


def _plain_hours(hours: QuietHours) -> dict[str, Any]:
    return hours.model_dump(by_alias=True)


def view(opening: Opening) -> dict[str, Any]:
    """As `GET /api/queue` shows it beside the jobs."""
    changed = {"changed_by": opening.changed_by, "changed_at": iso(opening.changed_at)}
    return plain(opening) | {"quiet_now": opening.quiet_until(utc_now()) is not None} | changed
