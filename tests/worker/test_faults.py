import errno
from pathlib import Path

import pytest

from worker.faults import explain_exit, last_lines, worker_fault


@pytest.mark.parametrize(
    ("code", "named", "word"),
    [(-9, "trainer_sigkill", "memory"), (-11, "trainer_sigsegv", "native"), (-64, "trainer_sigrtmax", "SIGRTMAX")],
)
def test_each_signal_has_its_sentence(tmp_path: Path, code: int, named: str, word: str) -> None:
    told = explain_exit(code, tmp_path / "none.log")
    assert (told["code"], told["detail"]) == (named, {"log": []})
    assert word in told["message"] and told["advice"]


def test_an_exit_is_told_with_the_last_line_that_says_something(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n\n")
    assert "No module named 'torch'" in explain_exit(1, tmp_path / "trainer.log")["message"]


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(tmp_path / "trainer.log") == [f"line {number}" for number in range(99_980, 100_000)]


def test_a_full_disk_is_called_by_its_name() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/disk/job.json")
    assert worker_fault(full)["code"] == "disk_full" and "/disk/job.json" in worker_fault(full)["message"]
    assert worker_fault(PermissionError(errno.EACCES, "no"))["code"] == "worker_fault"
