"""`trainctl demo`: the whole way once, on a sample and a model that come along: data in, adapter out."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from app.config import DEFAULT_PORT, Settings, default_data_dir
from app.job_client import ControlCenter, Refused
from app.processes import die_with_parent, with_repository
from app.schemas import TINY_MODEL
from app.security import ensure_token, make_login_code

SAMPLE = Path(__file__).resolve().parent.parent / "examples" / "capitals.jsonl"
CONFIG = {
    "max_steps": 120,
    "learning_rate": 0.01,
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "validation_share": 0.1,
    "eval_steps": 30,
    "save_steps": 60,
    "sample_prompts": 6,
}
READY_S = 60
POLL_S = 0.3
STRIDE = 10
ENDED = ("succeeded", "failed", "cancelled")


def run_demo(data_dir: Path | None, port: int | None) -> int:
    """0 with a trained adapter. Keeps serving until Ctrl-C, unless DEMO_EXIT is set."""
    place = data_dir or default_data_dir().with_name("training-control-center-demo")
    settings = Settings(data_dir=place.absolute(), port=port or _free_port(DEFAULT_PORT))
    command = [sys.executable, "-m", "app.cli", "up"]
    command += ["--data-dir", str(settings.data_dir), "--port", str(settings.port)]
    center = subprocess.Popen(
        command,
        env=with_repository(dict(os.environ)),
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    try:
        code = _show(settings, center)
        if code == 0 and not os.environ.get("DEMO_EXIT"):
            _say("", "It keeps serving; Ctrl-C ends it.")
            center.wait()
        return code
    except Refused as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        center.terminate()
        center.wait()


def _show(settings: Settings, process: "subprocess.Popen[bytes]") -> int:
    _say("Starting the control center ...")
    _wait_until_ready(settings, process)
    client = ControlCenter(settings)
    try:
        dataset = client.call("PUT", f"/api/datasets/{SAMPLE.name}", content=SAMPLE.read_bytes())
        _say(f"Dataset {dataset['name']}: {dataset['size']:,} bytes")
        body = {"dataset_id": dataset["id"], "model": TINY_MODEL, "name": "Capitals demo", "config": CONFIG}
        job = _follow(client, client.call("POST", "/api/jobs", json=body)["id"])
        if job["state"] != "succeeded":
            error = job["error"] or {"message": f"The job was {job['state']}.", "advice": ""}
            _say(error["message"], error.get("advice") or "")
            return 1
        _say_answers(client.call("GET", f"/api/jobs/{job['id']}/samples")["items"])
        adapter = client.call("GET", f"/api/adapters/{job['adapter_id']}")
    finally:
        client.close()
    path = settings.data_dir / "jobs" / str(job["id"]) / f"attempt-{job['attempt']}" / "adapter"
    code = make_login_code(ensure_token(settings.data_dir, "operator"))
    _say("", f"Adapter {adapter['name']!r}, {adapter['size']:,} bytes, after step {adapter['step']}:", "")
    _say(f"{settings.base_url}/login?code={code}", str(path / "adapter_model.safetensors"))
    return 0


def _wait_until_ready(settings: Settings, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Refused("The control center did not start.")
        try:
            if httpx.get(f"{settings.base_url}/healthz", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(POLL_S)
    raise Refused(f"The control center at {settings.base_url} did not answer within {READY_S} s.")


def _follow(client: ControlCenter, job_id: int) -> dict[str, Any]:
    """Print a line for each change until the job has ended."""
    shown = ""
    while True:
        job: dict[str, Any] = client.call("GET", f"/api/jobs/{job_id}")
        line = f"  {job['state']:<10} {job['phase'] or ''}"
        if job["state"] == "running" and job["step"]:
            points = client.call("GET", f"/api/jobs/{job_id}/metrics", params={"from_step": job["step"]})
            loss = points["loss"][-1] if points["loss"] else None
            line = f"  step {job['step']:>4} of {job['num_steps']}" + (
                f"   loss {loss:.3f}" if loss is not None else ""
            )
        if line != shown:
            _say(line)
            shown = line
        if job["state"] in ENDED:
            return job
        time.sleep(POLL_S)


def _step_line(client: ControlCenter, job: dict[str, Any]) -> str:
    """Where the job stands, in strides of ten steps."""
    step = max(1, job["step"] // STRIDE * STRIDE)
    points = client.call("GET", f"/api/jobs/{job['id']}/metrics", params={"from_step": step, "to_step": step})
    loss = points["loss"][0] if points["loss"] else None
    return f"  step {step:>4} of {job['num_steps']}" + (f"   loss {loss:.3f}" if loss is not None else "")


def _say_answers(samples: list[dict[str, Any]]) -> None:
    newest = {one["prompt_id"]: one for one in samples}
    for one in newest.values():
        _say("", f"  asked   {one['prompt']}", f"  before  {one['base_answer']!r}", f"  after   {one['answer']!r}")


def _free_port(wanted: int) -> int:
    """The port wanted, or any free one where that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Refused("No port is free on this machine.")


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
