"""Why an attempt did not end well, in a sentence and with what to do about it.

Every error has a code that stays the same. `RETRIED` are those of the infrastructure: the job is queued again for
them, as it is after a signal nobody asked for. All others are faults of data or configuration, and end the job.
"""

import errno
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG_LINES = 20
LOG_TAIL_BYTES = 64 << 10

# What a trainer or a preparation says itself, and that another attempt may well be spared.
RETRIED = frozenset({"driver_gone", "xid", "checkpoint_broken"})
# The trainer's own word for an exception that it does not know.
UNKNOWN_TO_TRAINER = "crashed_trainer"

Error = dict[str, Any]

SIGNALS: dict[int, tuple[str, str]] = {
    signal.SIGKILL: (
        "The trainer was killed from outside (SIGKILL), by a person, or by the system because memory ran out.",
        "Look for 'Out of memory' in the kernel's log (dmesg); a smaller max_length or batch_size needs less memory.",
    ),
    signal.SIGSEGV: (
        "The trainer broke off inside native code (segmentation fault).",
        "It often comes from a driver that does not fit the installed torch: `nvidia-smi` shows its version.",
    ),
    signal.SIGABRT: (
        "The trainer was aborted by a native library.",
        "The last lines of its log name the library; a GPU that failed shows as an Xid in the kernel's log (dmesg).",
    ),
    signal.SIGBUS: (
        "The trainer lost access to memory or to a file it had mapped.",
        "A full disk or a model folder that went away causes this; see that both are back and start it again.",
    ),
    signal.SIGILL: (
        "The trainer met an instruction that this processor does not have.",
        "Install the build of torch that is made for this processor.",
    ),
}

# "NVRM: Xid (PCI:0000:41:00): 79, pid=1234, name=python3, GPU has fallen off the bus."
XID = re.compile(r"NVRM: Xid \([^)]*\): (\d+)(?:,\s*pid='?(\d+))?[,\s]*(.*)")
RESTART_MACHINE = "Restart that machine; if it comes again, test the card, its power and its seat."
CHECK_MEMORY = "Its memory is failing: `nvidia-smi -q -d ECC` counts the errors; reset or replace the card."
CHECK_PROGRAM = "A library or the driver made a wrong access: start it again; if it repeats, update the driver."
XIDS: dict[int, tuple[str, str]] = {
    13: ("a fault in a kernel on the GPU", CHECK_PROGRAM),
    31: ("an access to a wrong GPU address", CHECK_PROGRAM),
    43: ("the GPU stopped working on a kernel", CHECK_PROGRAM),
    48: ("a memory error that could not be corrected", CHECK_MEMORY),
    63: ("a page of GPU memory was taken out of use", CHECK_MEMORY),
    64: ("a bad page of GPU memory could not be taken out of use", CHECK_MEMORY),
    74: ("an error of NVLink", RESTART_MACHINE),
    79: ("the GPU has fallen off the bus", RESTART_MACHINE),
    92: ("many memory errors that were corrected", CHECK_MEMORY),
    94: ("a memory error that could not be corrected, contained", CHECK_MEMORY),
    95: ("a memory error that could not be corrected, not contained", CHECK_MEMORY),
    119: ("the GPU's own processor did not answer", RESTART_MACHINE),
    120: ("the GPU's own processor failed", RESTART_MACHINE),
}

OOM_KILLED = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Kill(?:ed)? process \d+")
DRIVER_SAYINGS = (
    "CUDA error: unknown error",
    "GPU is lost",
    "no CUDA-capable device",
    "fallen off the bus",
    "uncorrectable ECC error",
    "Driver/library version mismatch",
    "Driver Not Loaded",
    "CUDA driver initialization failed",
)
MEMORY_SAYINGS = ("CUDA out of memory", "CUDA error: out of memory", "torch.OutOfMemoryError")


class PreparationFailed(Exception):
    """The attempt cannot start; the three parts go to the job as its error."""

    def __init__(self, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice

    def as_error(self) -> Error:
        return make_error(self.code, self.message, self.advice)


@dataclass(frozen=True)
class Evidence:
    """What was left behind: the last lines of the trainer's log, the kernel's since it started, and its number."""

    log: Sequence[str] = ()
    kernel: Sequence[str] = ()
    oom_kills: int = 0
    pid: int | None = None


def make_error(code: str, message: str, advice: str) -> Error:
    return {"code": code, "message": message, "advice": advice}


def explain_exit(code: int, evidence: Evidence) -> Error:
    """The error of a trainer that ended without an outcome; `code` as of Popen, negative for a signal."""
    known = find_xid(evidence) or find_driver_gone(evidence.log)
    if known is None and -code == signal.SIGKILL:
        known = find_oom_kill(evidence)
    if known is not None:
        return known
    if code < 0:
        name = _name(-code)
        return make_error(
            f"trainer_{name.lower()}", *SIGNALS.get(-code, (f"The trainer was ended by {name}.", "Start it again."))
        )
    return _explain_last_line(code, evidence.log)


def explain_said(error: Error, evidence: Evidence) -> Error:
    """The trainer's own word, unless it did not know what met it and the machine does."""
    if error.get("code") != UNKNOWN_TO_TRAINER:
        return error
    said = [str(error.get("message"))]
    return find_xid(evidence) or find_driver_gone([*evidence.log, *said]) or find_out_of_memory(said) or error


def find_xid(evidence: Evidence) -> Error | None:
    """The driver's own report of a fault, as the kernel logged it; not one that names another process."""
    for line in evidence.kernel:
        if (match := XID.search(line)) is None:
            continue
        number, pid, text = int(match[1]), match[2], match[3].strip().rstrip(".")
        if pid is not None and evidence.pid is not None and int(pid) != evidence.pid:
            continue
        what, advice = XIDS.get(number, (text[:120] or "a fault of the GPU", RESTART_MACHINE))
        return make_error("xid", f"The GPU's driver reported Xid {number}: {what}.", advice)
    return None


def find_driver_gone(lines: Sequence[str]) -> Error | None:
    saying = next((one for line in reversed(lines) for one in DRIVER_SAYINGS if one in line), None)
    if saying is None:
        return None
    return make_error(
        "driver_gone",
        f"The GPU or its driver was gone while the trainer ran ({saying}).",
        "See whether `nvidia-smi` still lists the card on that machine; if not, restart the machine.",
    )


def find_oom_kill(evidence: Evidence) -> Error | None:
    """Whether the kernel killed for want of memory. In a container its numbers are not ours: any kill counts then."""
    if not evidence.oom_kills and not any(OOM_KILLED.search(line) for line in evidence.kernel):
        return None
    return make_error(
        "oom_killed",
        "The machine's memory (not the GPU's) ran out, and the kernel killed the trainer.",
        "Lower max_length, row_tokens or batch_size, close other programs there, or give the machine more memory.",
    )


def find_out_of_memory(lines: Sequence[str]) -> Error | None:
    if not any(one in line for line in lines for one in MEMORY_SAYINGS):
        return None
    return make_error(
        "cuda_oom",
        "The GPU's memory ran out.",
        "Lower row_tokens, max_length or lora_r, or choose a card with more memory.",
    )


def _explain_last_line(code: int, lines: Sequence[str]) -> Error:
    last = next((line for line in reversed(lines) if line.strip()), "its log is empty").strip()
    if "No space left on device" in last:
        return disk_full("the job's folder").as_error()
    return find_out_of_memory([last]) or make_error(
        "trainer_crashed",
        f"The trainer ended with code {code} before it could say why: {last[:300]}",
        "The last lines of its log are kept in its black box; they name the place.",
    )


def worker_fault(error: OSError) -> Error:
    """The error of a job that the worker itself could not handle."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(str(error.filename or "")).as_error()
    advice = "See that the worker's folder can be read and written, then start the job again."
    return make_error("worker_fault", f"The worker failed: {error}.", advice)


def disk_full(place: str) -> PreparationFailed:
    return PreparationFailed(
        "disk_full", f"The disk of the worker is full ({place}).", "Free some space there and start the job again."
    )


def checkpoint_broken(step: int, why: str) -> PreparationFailed:
    return PreparationFailed(
        "checkpoint_broken",
        f"The checkpoint of step {step:,} is damaged: {why}.",
        "The job goes on from the checkpoint before it, or from the start where there is none.",
    )


def last_lines(path: Path, count: int = LOG_LINES) -> list[str]:
    """The last lines of a log; none where there is no log."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - LOG_TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-count:]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal_{number}"
