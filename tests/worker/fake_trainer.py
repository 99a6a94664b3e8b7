"""A trainer that only counts: `fake_trainer.py PLAN.json JOB_DIR`. It writes what a real one writes and obeys."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
job_dir = Path(sys.argv[2])
spec: dict[str, Any] = json.loads((job_dir / "job.json").read_text())
events_path = job_dir / "events.jsonl"
seq = len(events_path.read_bytes().splitlines()) if events_path.exists() else 0


def tell(kind: str, **fields: Any) -> None:
    global seq  # noqa: PLW0603 - a script of one page
    seq += 1
    with events_path.open("a") as stream:
        stream.write(json.dumps({"seq": seq, "at": "2026-01-01T00:00:00Z", "kind": kind, **fields}) + "\n")


def make_files(folder: str, **contents: str) -> list[dict[str, Any]]:
    (job_dir / folder).mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in contents.items():
        (job_dir / folder / name).write_text(text)
        files.append({"path": name, "size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return files


def checkpoint(step: int) -> None:
    path = f"checkpoints/step-{step:08d}"
    files = [{**file, "path": f"{path}/{file['path']}"} for file in make_files(path, adapter=f"weights {step}")]
    tell("checkpoint", step=step, size=10, best=False, path=path, files=files)


def end(outcome: str, step: int, adapter: dict[str, Any] | None = None, error: dict[str, Any] | None = None) -> None:
    known = {"outcome": outcome, "step": step, "error": error, "adapter": adapter}
    (job_dir / "outcome.part").write_text(json.dumps(known))
    (job_dir / "outcome.part").rename(job_dir / "outcome.json")
    time.sleep(plan.get("teardown", 0))
    sys.exit(0)


def obey(step: int) -> None:
    asked = {path.name for path in (job_dir / "commands").iterdir()}
    if "save" in asked:
        (job_dir / "commands" / "save").unlink()
        checkpoint(step)
    for command, outcome in {
        "stop": "cancelled",
        "cancel": "cancelled",
        "pause": "paused",
        "release": "released",
    }.items():
        if command in asked and not plan.get("deaf"):
            if command != "stop":
                checkpoint(step)
            end(outcome, step)


(job_dir / "environment.json").write_text(json.dumps(dict(os.environ)))
print("counting", flush=True)
tell("state", state="claimed", phase="loading", resume_step=spec["resume_step"])
time.sleep(plan.get("loading", 0))
tell("state", state="running", phase="training")
step = spec["resume_step"]
if "fails_with" in plan:
    end("failed", step, error=plan["fails_with"])
while step < plan.get("steps", 5):
    step += 1
    time.sleep(plan.get("pause", 0.01))
    tell("step", step=step, loss=1 / step)
    if step == plan.get("checkpoint_at"):
        checkpoint(step)
    if step == plan.get("killed_at"):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == plan.get("crashed_at"):
        raise RuntimeError("the data is not what it was")
    obey(step)
adapter = make_files("adapter", **{"adapter_model.safetensors": "weights", "manifest.json": "{}"})
end("succeeded", step, {"name": "a", "step": step, "model": spec["model"], "size": 7, "files": adapter, "manifest": {}})
