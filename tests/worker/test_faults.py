import errno
from pathlib import Path

import pytest

from worker.faults import Evidence, explain_exit, explain_said, last_lines, worker_fault

XID_79 = "NVRM: Xid (PCI:0000:41:00): 79, pid=77, name=python3, GPU has fallen off the bus."
KILLED = "Out of memory: Killed process 77 (python3) total-vm:1kB"


@pytest.mark.parametrize(
    ("code", "named", "word"),
    [(-9, "trainer_sigkill", "memory"), (-11, "trainer_sigsegv", "native"), (-64, "trainer_sigrtmax", "SIGRTMAX")],
)
def test_each_signal_has_its_sentence(code: int, named: str, word: str) -> None:
    told = explain_exit(code, Evidence())
    assert told["code"] == named and word in told["message"] and told["advice"]


def test_an_exit_is_told_with_the_last_line_that_says_something() -> None:
    log = ["Traceback", "ModuleNotFoundError: No module named 'torch'", ""]
    assert "No module named 'torch'" in explain_exit(1, Evidence(log))["message"]


@pytest.mark.parametrize(
    ("code", "evidence", "named"),
    [
        (-9, Evidence(kernel=["usb 1-1: new device", KILLED]), "oom_killed"),
        (-9, Evidence(oom_kills=1), "oom_killed"),
        (-11, Evidence(kernel=[KILLED]), "trainer_sigsegv"),
        (-6, Evidence(kernel=[XID_79], pid=77), "xid"),
        (-9, Evidence(kernel=[XID_79, KILLED], pid=77), "xid"),
        (-9, Evidence(kernel=[XID_79], pid=78), "trainer_sigkill"),
        (1, Evidence(["RuntimeError: CUDA error: unknown error", "at exit"]), "driver_gone"),
        (1, Evidence(["RuntimeError: No CUDA GPUs", "no CUDA-capable device is detected"]), "driver_gone"),
        (1, Evidence(["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"]), "cuda_oom"),
        (1, Evidence(["OSError: [Errno 28] No space left on device"]), "disk_full"),
        (1, Evidence(["KeyError: 'x'"]), "trainer_crashed"),
    ],
)
def test_a_crash_is_known_by_what_it_left(code: int, evidence: Evidence, named: str) -> None:
    told = explain_exit(code, evidence)
    assert told["code"] == named and told["message"].endswith((".", "'x'")) and told["advice"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (XID_79, "Xid 79: the GPU has fallen off the bus."),
        ("NVRM: Xid (PCI:0000:01:00): 48, An uncorrectable double bit error", "Xid 48: a memory error"),
        ("NVRM: Xid (PCI:0000:01:00): 999, pid='<unknown>', name=<unknown>, new kind", "Xid 999: "),
    ],
)
def test_an_xid_is_named_with_its_number_and_meaning(line: str, words: str) -> None:
    assert words in explain_exit(-6, Evidence(kernel=[line], pid=77))["message"]


def test_the_machine_knows_better_where_the_trainer_did_not_know() -> None:
    unknown = {"code": "crashed_trainer", "message": "The trainer broke off: CUDA error: unknown error", "advice": ""}
    assert explain_said(unknown, Evidence(kernel=[XID_79], pid=77))["code"] == "xid"
    assert explain_said(unknown, Evidence())["code"] == "driver_gone"
    assert explain_said(unknown | {"message": "KeyError: 3"}, Evidence())["code"] == "crashed_trainer"
    known = {"code": "non_finite_loss", "message": "NaN.", "advice": ""}
    assert explain_said(known, Evidence(kernel=[XID_79], pid=77)) == known


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(tmp_path / "trainer.log") == [f"line {number}" for number in range(99_980, 100_000)]


def test_a_full_disk_is_called_by_its_name() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/disk/job.json")
    assert worker_fault(full)["code"] == "disk_full" and "/disk/job.json" in worker_fault(full)["message"]
    assert worker_fault(PermissionError(errno.EACCES, "no"))["code"] == "worker_fault"
