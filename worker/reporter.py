"""The link of one attempt to the control center: events out, commands in, checkpoints behind them."""

import logging
import time

from pydantic import ValidationError

from worker.client import JobClient, Pause, Refused, ServerAway
from worker.messages import FileSpec
from worker.spool import BATCH, Event, Spool
from worker.uploads import Bundle, Uploader

log = logging.getLogger("worker.reporter")

LONGEST_SILENCE_S = 0.5
# What a server answers to an event that it cannot read or hold.
NOT_TAKEN = (400, 413, 422)
# Done beside the steps, and once for each request; all other commands end the trainer.
ERRANDS = ("save", "sample")


class Reporter:
    """Beats as soon as there are events, else twice a second. Not for more than one thread."""

    def __init__(self, job: JobClient, spool: Spool, uploader: Uploader, lease_s: float) -> None:
        self._job, self._spool, self._uploader = job, spool, uploader
        self._silence_s = min(LONGEST_SILENCE_S, lease_s / 3)
        self._pause = Pause()
        self._last_beat = 0.0
        self._away = False
        self._limit = BATCH
        self._heard = 0

    def tick(self) -> list[str]:
        """Sends what is there if it is time to; the commands of the reply. Raises `Fenced`."""
        if not self._pause.over:
            return []
        events = self._spool.next_batch(self._limit)
        if not events and time.monotonic() - self._last_beat < self._silence_s:
            return []
        # Back from a time away it is asked first how far it got: it may have lost what it had taken.
        return self._beat([] if self._away else events)

    @property
    def all_sent(self) -> bool:
        return not self._spool.next_batch()

    def _beat(self, events: list[Event]) -> list[str]:
        try:
            reply = self._job.beat(events, heard=self._heard)
        except ServerAway as error:
            self._failed(error)
            return []
        except Refused as error:
            self._failed(error)
            self._narrow_down(events, error)
            return []
        if events:
            self._limit = BATCH
        self._last_beat = time.monotonic()
        if self._away:
            log.info("The control center is back.")
        self._away = False
        accepted = self._spool.accept(reply.seq)
        self._hold_back(events, accepted)
        for event in accepted:
            self._follow(event)
        is_new, self._heard = reply.mark > self._heard, max(reply.mark, self._heard)
        # Said again where our word that we heard got lost: that is no second request.
        return [command for command in reply.commands if is_new or command not in ERRANDS]

    def _narrow_down(self, events: list[Event], error: Refused) -> None:
        """One event that is not taken must not hold back all that follow: it goes as a line of the log instead."""
        if error.status not in NOT_TAKEN or not events:
            return
        self._limit = 1
        if len(events) == 1:
            text = f"An event of the kind {events[0].get('kind')!r} was not taken: {error.message}"
            self._spool.replace_first({"kind": "log", "level": "warning", "text": text})

    def _failed(self, error: Exception) -> None:
        if not self._away:
            log.warning("The control center does not take the beat and is tried again: %s", error)
        self._away = True
        self._pause.failed()

    def _hold_back(self, events: list[Event], accepted: list[Event]) -> None:
        """A reply that took nothing of what was sent must not be answered by sending it again at once."""
        if events and not accepted:
            self._pause.failed()
        else:
            self._pause.worked()

    def _follow(self, event: Event) -> None:
        """The files of a checkpoint go once the event that names them was taken."""
        if event.get("kind") != "checkpoint":
            return
        try:
            files = [FileSpec.model_validate(one) for one in event.get("files", [])]
        except ValidationError:
            log.warning("The files of a checkpoint event cannot be read: %r", event)
            return
        self._uploader.add(Bundle(f"checkpoint of step {event.get('step')}", files))


def send_earlier(job: JobClient, spool: Spool) -> None:
    """Sends the spool of an earlier attempt. Raises `Fenced` when that never held the claim, and `ServerAway`."""
    spool.accept(job.beat([], earlier=True).seq)
    while events := spool.next_batch():
        if not spool.accept(job.beat(events, earlier=True).seq):
            # Nothing of it is wanted.
            return
