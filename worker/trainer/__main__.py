"""python -m worker.trainer JOB_DIR: one job in a process of its own. Reports before anything heavy is imported."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.schemas import TINY_MODEL, JobSpec
from worker.trainer.atomic import write_json
from worker.trainer.base_files import check_base_model
from worker.trainer.commands import Commands
from worker.trainer.events import EventLog, without_nan
from worker.trainer.faults import Interrupted, JobFailed
from worker.trainer.job import Job
from worker.trainer.quick_import import import_bitsandbytes

# The trainer never asks the network: a wrong path would otherwise be looked up on the hub for minutes.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "true"}


def main(arguments: list[str]) -> int:
    """0 unless the job failed (1) or was called wrongly (2)."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "job.json").is_file():
        print("usage: python -m worker.trainer JOB_DIR, with a job.json in that directory", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    os.environ.update(OFFLINE)
    # Rows differ in length: without it CUDA's memory falls into pieces that fit none of them.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    values = json.loads((folder / "job.json").read_text("utf-8"))
    resume_step = int(values.get("resume_step", 0))
    with closing(EventLog(folder / "events.jsonl", resume_step)) as events:
        events.state("claimed", "loading", "Starting the trainer", resume_step=resume_step)
        ending = conclude(lambda: work(values, folder, events), events)
    write_json(folder / "outcome.json", without_nan(ending))
    return 1 if ending["outcome"] == "failed" else 0


def work(values: dict[str, Any], folder: Path, events: EventLog) -> dict[str, Any]:
    commands = Commands(folder / "commands")
    commands.listen_for_sigterm()
    spec = JobSpec.model_validate(values)
    if spec.model != TINY_MODEL:
        check_base_model(Path(spec.model_path), spec.model)
    commands.poll()
    import_bitsandbytes()
    from worker.trainer.run import train  # seconds of imports, after the first event

    ended = train(Job(spec, folder, events, commands))
    return {"outcome": ended.outcome, "step": ended.step, "error": None, "adapter": ended.adapter}


def conclude(job: Callable[[], dict[str, Any]], events: EventLog) -> dict[str, Any]:
    """What becomes of the job, whatever happens in it: `outcome.json`."""
    try:
        return job()
    except Interrupted as end:
        return {"outcome": end.ask.outcome, "step": events.step, "error": None, "adapter": None}
    except JobFailed as fault:
        error = fault.as_json()
    except AppError as refusal:
        error = {"code": refusal.code, "message": refusal.message, "advice": "Correct that and start the job again."}
    except Exception as crash:  # the last line of defence: reported whole, then the process ends
        events.log(traceback.format_exc(), level="error")
        last = traceback.format_exception_only(crash)[-1].strip()
        advice = "This is a fault of the trainer; its log holds the details. Resume the job from its last checkpoint."
        error = {"code": "crashed_trainer", "message": f"The trainer broke off: {last}", "advice": advice}
    events.log(f"{error['message']} {error['advice']}", level="error")
    return {"outcome": "failed", "step": events.step, "error": error, "adapter": None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
