"""Why an attempt did not end well, in a sentence and with what to do about it."""

import errno
import signal
from pathlib import Path
from typing import Any

LOG_LINES = 20
LOG_TAIL_BYTES = 32 << 10

ADVICE: dict[int, tuple[str, str]] = {
    signal.SIGKILL: (
        "The trainer was killed by the system, most often because the machine ran out of memory.",
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


class PreparationFailed(Exception):
    """The attempt cannot start; the three parts go to the job as its error."""

    def __init__(self, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice

    def as_error(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "advice": self.advice}


def explain_exit(code: int, log_path: Path) -> dict[str, Any]:
    """The error of a trainer that ended without an outcome; `code` as of Popen, negative for a signal."""
    lines = last_lines(log_path)
    if code < 0:
        name = _name(-code)
        message, advice = ADVICE.get(-code, (f"The trainer was ended by {name}.", "Start it again."))
        return {"code": f"trainer_{name.lower()}", "message": message, "advice": advice, "detail": {"log": lines}}
    last = next((line for line in reversed(lines) if line.strip()), "its log is empty")
    return {
        "code": "trainer_crashed",
        "message": f"The trainer ended with code {code} before it could say why: {last.strip()[:300]}",
        "advice": "The last lines of its log are kept with this error; they name the place.",
        "detail": {"log": lines},
    }


def worker_fault(error: OSError) -> dict[str, Any]:
    """The error of a job that the worker itself could not handle."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(str(error.filename or "")).as_error()
    advice = "See that the worker's folder can be read and written, then start the job again."
    return {"code": "worker_fault", "message": f"The worker failed: {error}.", "advice": advice}


def disk_full(place: str) -> PreparationFailed:
    return PreparationFailed(
        "disk_full", f"The disk of the worker is full ({place}).", "Free some space there and start the job again."
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
