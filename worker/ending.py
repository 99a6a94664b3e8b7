"""What an attempt came to, as the control center is told at its end."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worker.faults import RETRIED, Evidence, PreparationFailed, explain_exit, explain_said
from worker.files import read_json
from worker.messages import FileSpec

# What an attempt becomes when its trainer is gone and this was asked for.
ENDS_AS = {"stop": "cancelled", "cancel": "cancelled", "pause": "paused", "release": "released"}

# Outcomes that leave a black box.
BAD = ("failed", "crashed")

OUTCOME_NAME = "outcome.json"

Ending = dict[str, Any]


def has_ended(job_dir: Path) -> bool:
    """Whether the trainer said what it came to, which is the last thing it does."""
    return (job_dir / OUTCOME_NAME).exists()


def read_ending(job_dir: Path, code: int | None, asked: Iterable[str], step: int, evidence: Evidence) -> Ending:
    """The trainer's own word, else what was asked for, else a crash, explained. `code` as of Popen, None: never ran."""
    said = read_json(job_dir / OUTCOME_NAME) if code is not None else None
    if said is not None and "outcome" in said:
        known = {"outcome": said["outcome"], "error": said.get("error"), "adapter": said.get("adapter")}
        if known["outcome"] == "failed":
            known |= _outcome(explain_said(known["error"] or {}, evidence))
        # How the process went after its last word does not matter.
        return {
            **known,
            "step": said.get("step") or step,
            "exit": {"code": int(known["outcome"] in BAD), "signal": None},
        }
    exit_ = None if code is None else {"code": max(code, 0), "signal": -code if code < 0 else None}
    if wish := _wish(asked):
        return {"outcome": ENDS_AS[wish], "error": None, "step": step, "adapter": None, "exit": exit_}
    error = explain_exit(code or 0, evidence)
    return {"outcome": "crashed", "error": error, "step": step, "adapter": None, "exit": exit_}


def unprepared(failure: PreparationFailed, step: int) -> Ending:
    """An attempt whose trainer was never started."""
    return failed(failure.as_error(), step) | _outcome(failure.as_error())


def _outcome(error: dict[str, Any]) -> Ending:
    """A fault of the infrastructure counts as a crash, so that the job is tried again."""
    return {"outcome": "crashed" if error.get("code") in RETRIED else "failed", "error": error}


def failed(error: dict[str, Any], step: int) -> Ending:
    """An attempt that failed before or after its trainer."""
    return {"outcome": "failed", "error": error, "step": step, "adapter": None, "exit": None}


def adapter_files(job_dir: Path) -> list[FileSpec]:
    """The files of the finished adapter by their paths below the job directory; none before a success."""
    adapter = (read_json(job_dir / OUTCOME_NAME) or {}).get("adapter") or {}
    return [FileSpec(**{**file, "path": f"adapter/{file['path']}"}) for file in adapter.get("files", [])]


def describe(ending: Ending) -> str:
    """An ending in a few words for the log."""
    error = ending["error"]
    return f"{ending['outcome']} at step {ending['step']}" + (f": {error['message']}" if error else "")


def _wish(asked: Iterable[str]) -> str | None:
    # What a person asked for outlives the worker's own shutdown.
    return min(asked, key=lambda command: command == "release", default=None)
