"""The trainer as a process of its own: started, spoken to by flag files, ended; and strangers of an earlier life."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from app.processes import die_with_parent, kill_group, with_repository
from worker.files import read_json, write_json

LOG_NAME = "trainer.log"
PID_NAME = "trainer.pid.json"

# What a trainer sees of the worker's environment: no token, no broker, nothing it does not need.
PASSED_ON = set(
    "PATH HOME LANG LANGUAGE TZ TMPDIR LD_LIBRARY_PATH PYTHONPATH XDG_CACHE_HOME HF_HOME HF_HUB_CACHE".split()
)
PASSED_ON_PREFIXES = ("LC_", "OMP_", "MKL_", "CUDA_", "NVIDIA_", "NCCL_", "PYTORCH_", "TORCH_", "TRITON_", "BNB_")


def trainer_environment(environment: Mapping[str, str], gpu_uuid: str | None) -> dict[str, str]:
    """The environment of a trainer; `gpu_uuid` is its one GPU, None leaves it none."""
    names = (name for name in environment if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES))
    passed = {name: environment[name] for name in names}
    fixed = {
        "CUDA_VISIBLE_DEVICES": gpu_uuid or "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return with_repository(passed | fixed)


def ask(job_dir: Path, command: str) -> None:
    """Puts the flag file of a command where the trainer looks for it, now or once it runs."""
    (job_dir / "commands").mkdir(exist_ok=True)
    (job_dir / "commands" / command).touch()


class TrainerProcess:
    """One running trainer. Start it from a thread that lives as long as the trainer may."""

    def __init__(self, command: Sequence[str], job_dir: Path, environment: Mapping[str, str], lane: str) -> None:
        self._job_dir = job_dir
        (job_dir / "commands").mkdir(exist_ok=True)
        with (job_dir / LOG_NAME).open("ab") as output:
            self._process = subprocess.Popen(
                [*command, str(job_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        try:
            started = psutil.Process(self._process.pid).create_time()
            write_json(job_dir / PID_NAME, {"pid": self._process.pid, "started": started, "lane": lane})
        except BaseException:
            # Nobody would find it: on a full disk it would hold the GPU beside the next job.
            self.kill()
            raise

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal; None when it still runs after that time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ask(self, command: str) -> None:
        ask(self._job_dir, command)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Ends the trainer and everything it started, and waits for it."""
        kill_group(self._process.pid)
        self._process.wait()

    def close(self) -> None:
        """After the trainer's end: no process of its group stays, and nobody looks for it later."""
        self.kill()
        (self._job_dir / PID_NAME).unlink(missing_ok=True)


def end_strangers(jobs_dir: Path, lane: str) -> list[int]:
    """Kills trainers that an earlier worker of this lane left behind; their process ids."""
    ended = []
    for note in jobs_dir.glob(f"*/attempt-*/{PID_NAME}"):
        known = read_json(note)
        if known is None or known.get("lane") != lane:
            continue
        if _is_ours(known, note.parent):
            kill_group(known["pid"])
            ended.append(known["pid"])
        note.unlink(missing_ok=True)
    return ended


def _is_ours(known: Mapping[str, object], job_dir: Path) -> bool:
    """Whether the process noted there is that trainer and not another that got its number since."""
    pid = known.get("pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        return process.create_time() == known.get("started") and str(job_dir) in process.cmdline()
    except psutil.Error:
        return False
