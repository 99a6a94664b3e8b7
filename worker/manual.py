"""`trainctl train`: one training by hand, without a server, in the same trainer process that jobs use."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from app.config import Settings
from app.conversations.containers.unpack import unpack
from app.conversations.findings import check_lines
from app.errors import AppError
from app.schemas import TINY_MODEL, JobSpec
from worker.base_models import BaseModel, check_complete, resolve
from worker.faults import PreparationFailed
from worker.files import read_json, sha256_of, write_json
from worker.flags import Flags, read_flags
from worker.hub import fetch
from worker.process import TrainerProcess, trainer_environment
from worker.spool import Spool

SHOWN_ERRORS = 5
TICK_S = 0.1
STEP_LINE_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """0 with an adapter in the output directory, 1 where it failed, 2 for wrong flags, 130 where it was interrupted."""
    try:
        flags = _unpacked(read_flags(arguments))
        if not _gate(flags):
            return 1
        return _train(flags, Settings())
    except PreparationFailed as error:
        return _complain(f"{error} {error.advice}")
    except AppError as error:
        return _complain(error.message, 2)
    except OSError as error:
        return _complain(f"{error.filename or 'The file'}: {error.strerror or error}.")


def _unpacked(flags: Flags) -> Flags:
    """The same with the dataset's lines beside the adapter, where it is no plain JSONL."""
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    lines = flags.output_dir / "dataset.jsonl"
    found = unpack(flags.dataset, lines)
    if found is None:
        return flags
    say(f"{flags.dataset} ({found.container}) was unpacked into {lines}")
    return replace(flags, dataset=lines)


def _gate(flags: Flags) -> bool:
    """Look at the data first: lines in error are shown, and trained without only where that is wanted."""
    if flags.skip_validation:
        say("The check of the data is skipped; lines in error are still left out, and counted.")
        return True
    errors, valid = [], 0
    for checked in check_lines(flags.dataset):
        valid += checked.conversation is not None
        errors += [one.as_json() for one in checked.findings if one.as_json()["severity"] == "error"]
    for one in errors[:SHOWN_ERRORS]:
        say(f"line {one['line']}: {one['kind']}: {one['message']}")
    if not valid:
        _complain(f"{flags.dataset} has no line that can be trained.")
        return False
    say(f"{valid:,} lines can be trained, {len(errors):,} errors")
    return not errors or flags.yes or _agreed(f"Train on the {valid:,} good lines?")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        _complain(f"{question} Say --yes to go on, or mend the lines first.")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _train(flags: Flags, settings: Settings) -> int:
    model = _resolve(flags.model, settings)
    jobs_dir = flags.output_dir / "jobs"
    previous = sorted(jobs_dir.glob("[0-9]*")) if jobs_dir.is_dir() else []
    resume_path = _newest_checkpoint(previous) if flags.resume else None
    number = int(previous[-1].name) + 1 if previous else 1
    job_dir = jobs_dir / f"{number:04}"
    job_dir.mkdir(parents=True)
    spec = JobSpec(
        job_id=0,
        attempt=number,
        name=flags.output_dir.resolve().name,
        model=flags.model,
        model_path=str(model.path.resolve()),
        model_revision=model.revision,
        dataset_path=str(flags.dataset.resolve()),
        dataset={"name": flags.dataset.name, "sha256": sha256_of(flags.dataset), "size": flags.dataset.stat().st_size},
        config=flags.config,
        resume_path=str(resume_path.resolve()) if resume_path else None,
        resume_step=int(resume_path.name.removeprefix("step-")) if resume_path else 0,
        from_adapter_path=str(flags.from_adapter.resolve()) if flags.from_adapter else None,
        from_adapter=_described(flags.from_adapter) if flags.from_adapter else None,
    )
    write_json(job_dir / "job.json", spec.model_dump(mode="json"))
    return _supervise(flags, job_dir.resolve())


def _described(adapter: Path) -> dict[str, Any]:
    return {"id": None, "name": adapter.resolve().name, "sha256": sha256_of(adapter / "adapter_model.safetensors")}


def _resolve(name: str, settings: Settings) -> BaseModel:
    """A directory wherever it lies, the built-in model, a name under a model root, or a Hub id."""
    place = Path(name)
    if name != TINY_MODEL and place.is_dir():
        check_complete(place)
        return BaseModel(place)
    return resolve(name, settings, _download)


def _download(repository: str) -> BaseModel:
    say(f"Downloading {repository} from the Hub")
    found = fetch(repository)
    if error := found.get("error"):
        raise PreparationFailed(error["code"], error["message"], error["advice"])
    return BaseModel(Path(found["path"]), found["revision"])


def _newest_checkpoint(job_dirs: Sequence[Path]) -> Path:
    """The newest one of the newest training that left any: a greater step of an older one is another training's."""
    for job_dir in reversed(job_dirs):
        if found := sorted(job_dir.glob("checkpoints/step-*")):
            return found[-1]
    raise PreparationFailed("no_checkpoint", "There is no checkpoint to go on from.", "Leave --resume out.")


def _supervise(flags: Flags, job_dir: Path) -> int:
    """Run the trainer, print what it tells, keep the adapter. Ctrl-C saves a checkpoint; a second one ends at once."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    environment = trainer_environment(os.environ, None)
    if devices is None:
        del environment["CUDA_VISIBLE_DEVICES"]
    else:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    process = TrainerProcess([sys.executable, "-m", "worker.trainer"], job_dir, environment, "manual")
    asked = 0

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        process.ask("cancel" if asked == 1 else "stop")

    handlers = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        _follow(process, Spool(job_dir))
    finally:
        process.close()
        for one, handler in handlers.items():
            signal.signal(one, handler)
    return _conclude(flags, job_dir)


def _follow(process: TrainerProcess, spool: Spool) -> None:
    printer = Printer()
    code = None
    while code is None:
        code = process.wait(TICK_S)
        while batch := spool.next_batch():
            for event in batch:
                printer.show(event)
            spool.accept(batch[-1]["seq"])


def _conclude(flags: Flags, job_dir: Path) -> int:
    outcome = read_json(job_dir / "outcome.json")
    if outcome is None:
        tail = (job_dir / "trainer.log").read_text(errors="replace").splitlines()[-10:]
        return _complain("\n".join(["The trainer ended without a word. The end of its log:", *tail]))
    if outcome["outcome"] == "failed":
        return _complain(f"{outcome['error']['message']} {outcome['error'].get('advice') or ''}")
    if outcome["outcome"] != "succeeded":
        say(f"Stopped after step {outcome['step']:,}; go on with --resume.")
        return 130
    for path in (job_dir / "adapter").iterdir():
        shutil.copy2(path, flags.output_dir / path.name)
    say(f"Adapter saved in {flags.output_dir}")
    return 0


class Printer:
    """A trainer's events as lines for a terminal; of many fast steps only some are printed."""

    def __init__(self) -> None:
        self._printed_at = 0.0

    def show(self, event: dict[str, Any]) -> None:
        text = self._text(event)
        if text:
            say(text)

    def _text(self, event: dict[str, Any]) -> str | None:
        match event["kind"]:
            case "log":
                return str(event["text"])
            case "state":
                return str(event.get("message") or "") or None
            case "step":
                return self._step(event)
            case "eval":
                return f"step {event['step']:,}: validation loss {_number(event['loss'])}"
            case "checkpoint":
                return f"step {event['step']:,}: checkpoint saved ({event['size'] / 1e6:.1f} MB)"
        return None

    def _step(self, event: dict[str, Any]) -> str | None:
        now = time.monotonic()
        if now - self._printed_at < STEP_LINE_S and event["step"] != event["num_steps"]:
            return None
        self._printed_at = now
        speed = f"{event['tokens_per_s']:,.0f} tok/s" if event.get("tokens_per_s") else ""
        place = f"step {event['step']:,}/{event['num_steps']:,}"
        values = (
            f"loss {_number(event['loss'])}  lr {event['learning_rate']:.3g}  grad_norm {_number(event['grad_norm'])}"
        )
        return f"{place}  {values}  {speed}  {event.get('eta_s') or 0:.0f} s left"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4f}"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str, code: int = 1) -> int:
    sys.stderr.write(text.strip() + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
