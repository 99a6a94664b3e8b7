"""Carries one claimed job from its claim to its end: prepare, start the trainer, report, obey, end."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.config import Settings
from worker.cache import Cache
from worker.client import Client, Fenced, Pause, Refused, ServerAway
from worker.ending import BAD, ENDS_AS, Ending, adapter_files, describe, failed, has_ended, read_ending, unprepared
from worker.faults import Evidence, PreparationFailed, last_lines
from worker.job_dirs import close_job, make_job_dir, open_spools, shed
from worker.kernel import Kernel
from worker.messages import Claim
from worker.prepare import Abandoned, Preparation
from worker.process import LOG_NAME, TrainerProcess, ask, trainer_environment
from worker.reporter import ERRANDS, Reporter, send_earlier
from worker.spool import Spool
from worker.uploads import Bundle, Uploader

log = logging.getLogger("worker.supervise")

TICK_S = 0.1
STOP_NOW_S = 5.0
NOTHING_TO_SAVE_S = 2.0
FAREWELL_S = 0.3
# The launcher gives a lane 30 s: first the trainer has to save, then the files have to reach the control center.
RELEASE_S = 20.0
LAST_WORDS_S = 26.0
EARLIER_TRIES = 5
TOLD_LINES, LONGEST_LINE = 200, 1000
# After these the only copy of an adapter may be here.
KEPT_FOR_A_PERSON = ("upload_failed", "end_refused")


@dataclass(frozen=True)
class Bench:
    """What a lane lends to each of its jobs. `trainer` is a command that takes a job directory as its last word."""

    client: Client
    settings: Settings
    draining: Callable[[], bool]
    trainer: Sequence[str]
    gpu_uuid: str | None = None


def supervise(claim: Claim, bench: Bench) -> None:
    """Returns when the job has ended, went back to the queue or belongs to somebody else."""
    Supervision(claim, bench).run()


class Supervision:
    """One attempt. All of it happens in the calling thread but the preparation and the uploads."""

    def __init__(self, claim: Claim, bench: Bench) -> None:
        self._claim, self._bench = claim, bench
        self._label = f"job {claim.job_id}, attempt {claim.attempt}"
        self._jobs_dir = bench.settings.work_path.absolute() / "jobs"
        self._job_dir = make_job_dir(self._jobs_dir, claim)
        self._job = bench.client.job(claim.job_id, claim.attempt, claim.claim_token)
        self._spool = Spool(self._job_dir)
        self._uploader = Uploader(self._job, self._job_dir)
        self._reporter = Reporter(self._job, self._spool, self._uploader, claim.lease_s)
        self._trainer: TrainerProcess | None = None
        self._kernel = Kernel(bench.settings.kernel_log)
        self._evidence = Evidence()
        self._asked: dict[str, float] = {}
        self._cache = Cache(bench.settings.work_path.absolute(), bench.settings.cache_limit)

    def run(self) -> None:
        log.info("%s starts.", self._label)
        try:
            self._send_earlier_spools()
            self._conclude(self._carry_out())
        except Fenced as error:
            log.warning("%s does not hold the job any more: %s", self._label, error)
            self._end_trainer()
            shed(self._job_dir)
        finally:
            self._end_trainer()
            self._uploader.close()
            self._cache.close()
            self._kernel.close()

    def _carry_out(self) -> int | PreparationFailed | None:
        """The exit code of the trainer; None when the job was called off before it could start."""
        try:
            if not self._prepare():
                return None
        except PreparationFailed as failure:
            return failure
        environment = trainer_environment(os.environ, self._bench.gpu_uuid)
        self._trainer = TrainerProcess(self._bench.trainer, self._job_dir, environment, self._bench.settings.lane)
        while (code := self._trainer.wait(TICK_S)) is None:
            self._tick()
            self._lose_patience(self._trainer)
            if has_ended(self._job_dir):
                # Its last word is said; taking torch apart may last seconds, and nothing is lost without that.
                code = self._trainer.wait(FAREWELL_S) or 0
                break
        self._evidence = self._gather(self._trainer.pid)
        self._end_trainer()
        return code

    def _conclude(self, result: int | PreparationFailed | None) -> None:
        if not self._send_the_rest():
            log.warning("%s: the control center did not take everything in time; another attempt goes on.", self._label)
            return
        if isinstance(result, PreparationFailed):
            ending = unprepared(result, self._step)
        else:
            ending = read_ending(self._job_dir, result, self._asked, self._step, self._evidence)
        if problem := self._uploader.problem:
            advice = "Start the job again; its training goes on from the newest checkpoint."
            ending = failed({"code": "upload_failed", "message": problem, "advice": advice}, self._step)
        if ending["outcome"] in BAD:
            ending["log"] = [line[:LONGEST_LINE] for line in self._evidence.log]
        if self._end(ending):
            log.info("%s ended: %s", self._label, describe(ending))
            if (ending["error"] or {}).get("code") not in KEPT_FOR_A_PERSON:
                close_job(self._jobs_dir, self._claim.job_id, self._claim.attempt)

    def _gather(self, pid: int) -> Evidence:
        log_lines = last_lines(self._job_dir / LOG_NAME, TOLD_LINES)
        return Evidence(log_lines, self._kernel.lines(), self._kernel.oom_kills(), pid)

    @property
    def _step(self) -> int:
        return max(self._spool.last_step, self._claim.resume.step if self._claim.resume else 0)

    def _send_earlier_spools(self) -> None:
        """Events that an earlier attempt on this machine could not send: they belong to its steps."""
        for attempt, token, job_dir in open_spools(self._jobs_dir, self._claim.job_id, self._claim.attempt):
            earlier = self._bench.client.job(self._claim.job_id, attempt, token)
            for _ in range(EARLIER_TRIES):
                try:
                    send_earlier(earlier, Spool(job_dir))
                except ServerAway:
                    time.sleep(TICK_S * 5)
                    continue
                except (Fenced, Refused) as error:
                    log.info("Attempt %s of job %s has nothing to tell: %s", attempt, self._claim.job_id, error)
                break

    def _prepare(self) -> bool:
        """Runs the preparation beside the beats; False when the job was called off meanwhile."""
        preparation = Preparation(
            self._claim, self._job, self._bench.settings, self._job_dir, self._report_phase, self._cache
        )
        caught: list[BaseException] = []

        def run() -> None:
            try:
                preparation.run()
            except BaseException as error:  # noqa: BLE001 - raised again in the supervising thread
                caught.append(error)

        thread = threading.Thread(target=run, name="preparation", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(TICK_S)
                self._tick()
                if self._asked:
                    preparation.abandon()
        finally:
            # Fenced in a beat: a download must not go on behind the next job.
            preparation.abandon()
        for error in caught:
            if not isinstance(error, Abandoned):
                raise error
        return not self._asked

    def _report_phase(self, phase: str, message: str) -> None:
        resume_step = self._claim.resume.step if self._claim.resume else 0
        fields = {"state": "claimed", "phase": phase, "message": message, "resume_step": resume_step}
        self._spool.append("state", fields)

    def _tick(self) -> None:
        """Sends what is new and obeys what comes back. Raises `Fenced`."""
        if self._uploader.fenced:
            raise Fenced("an upload was refused")
        for command in self._reporter.tick():
            self._obey(command)
        if self._bench.draining():
            self._obey("release")

    def _obey(self, command: str) -> None:
        if command in self._asked or command not in {*ENDS_AS, *ERRANDS}:
            return
        log.info("%s is asked: %s", self._label, command)
        if command in ENDS_AS:
            self._asked[command] = time.monotonic()
        if self._trainer is not None or command in ERRANDS:
            ask(self._job_dir, command)

    def _lose_patience(self, trainer: TrainerProcess) -> None:
        graces = {"stop": STOP_NOW_S, "release": RELEASE_S}
        # Before its first step a trainer has nothing to save, and while it loads it does not listen.
        usual = self._bench.settings.stop_grace_s if self._spool.last_step else NOTHING_TO_SAVE_S
        now = time.monotonic()
        if any(now - asked > min(usual, graces.get(command, usual)) for command, asked in self._asked.items()):
            log.warning("%s: the trainer does not end by itself and is killed.", self._label)
            trainer.kill()

    def _send_the_rest(self) -> bool:
        """Waits until all events and files are with the control center; False when a shutdown cannot wait longer."""
        if files := adapter_files(self._job_dir):
            self._uploader.add(Bundle("adapter", files, needed=True))
        while not (self._reporter.all_sent and self._uploader.idle):
            if self._late:
                return False
            self._tick()
            time.sleep(TICK_S / 5)
        return True

    @property
    def _late(self) -> bool:
        asked = self._asked.get("release")
        return asked is not None and time.monotonic() - asked > LAST_WORDS_S

    def _end(self, ending: Ending) -> bool:
        """Tells the end until it is taken; False when it was not."""
        pause = Pause()
        while not self._late:
            try:
                if pause.over:
                    self._job.end(ending)
                    return True
            except ServerAway:
                pause.failed()
            except Refused as error:
                if ending["outcome"] == "failed":
                    log.error("%s: its end was refused: %s", self._label, error)
                    return False
                advice = "Look into the log of the control center."
                ending = failed({"code": "end_refused", "message": error.message, "advice": advice}, self._step)
            if self._bench.draining():
                self._obey("release")
            time.sleep(TICK_S / 5)
        return False

    def _end_trainer(self) -> None:
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = None
