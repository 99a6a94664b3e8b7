"""What is wrong is said at once, in words, with a code and with what to do."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from app.model_folder import INDEX, SINGLE
from tests.tiny import conversation, make_job, of_kind, run_job, write_jsonl
from worker.trainer import checkpoint, loop, run
from worker.trainer.base_files import check_base_model, identity_of
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example, Vision

RECORDS = [conversation(i) for i in range(24)]


@pytest.fixture
def base(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(model_dir, tmp_path / "base"))


def refused(folder: Path) -> JobFailed:
    with pytest.raises(JobFailed) as failed:
        check_base_model(folder, "some/model")
    return failed.value


def test_a_missing_model_is_named_with_its_place(tmp_path: Path) -> None:
    failed = refused(tmp_path / "nowhere")
    assert failed.code == "model_missing"
    assert str(tmp_path / "nowhere") in failed.message


def test_every_missing_file_is_named(base: Path) -> None:
    for name in ("tokenizer.json", SINGLE):
        (base / name).unlink()
    failed = refused(base)
    assert failed.code == "model_incomplete"
    assert "no tokenizer.json, no model.safetensors." in failed.message


def test_shards_that_the_index_names_have_to_be_there(base: Path) -> None:
    (base / SINGLE).rename(base / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (base / INDEX).write_text(json.dumps({"weight_map": shards}), "utf-8")
    assert "no model-00002-of-00002.safetensors." in refused(base).message


def test_a_half_downloaded_file_counts_as_missing(base: Path) -> None:
    data = (base / SINGLE).read_bytes()
    (base / SINGLE).write_bytes(data[: len(data) // 2])
    assert "model.safetensors is cut short." in refused(base).message


def test_another_kind_of_model_is_refused(base: Path) -> None:
    (base / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    assert "'llama'" in refused(base).message


def test_other_weights_are_another_model(base: Path, model_dir: Path) -> None:
    assert identity_of(base) == identity_of(model_dir)
    data = bytearray((base / SINGLE).read_bytes())
    data[-1] ^= 1
    (base / SINGLE).write_bytes(data)
    assert identity_of(base) != identity_of(model_dir)


def failure(folder: Path) -> dict[str, Any]:
    outcome = run_job(folder)
    assert (outcome["outcome"], outcome["adapter"]) == ("failed", None)
    error: dict[str, Any] = outcome["error"]
    assert of_kind(folder, "log")[-1]["text"] == f"{error['message']} {error['advice']}"
    return error


def test_a_job_without_its_model_fails_before_it_reads_data(tmp_path: Path) -> None:
    make_job(tmp_path, tmp_path / "nowhere", RECORDS, model="some/model")
    assert failure(tmp_path)["code"] == "model_missing"
    assert [one["phase"] for one in of_kind(tmp_path, "state")] == ["loading"]


def test_a_dataset_without_a_usable_record_fails_with_the_first_reason(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, [{"messages": [{"role": "user", "content": "?"}]}])
    error = failure(tmp_path)
    assert error["code"] == "no_examples"
    assert "1 in error" in error["message"] and "line 1" in error["message"]


@pytest.mark.parametrize("field", ["dataset_path", "validation_path"])
def test_a_file_that_is_not_there_is_named(field: str, model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, RECORDS, **{field: "/nowhere/d.jsonl"})
    error = failure(tmp_path)
    assert (error["code"], error["message"]) == ("dataset_missing", "There is no file /nowhere/d.jsonl.")


def test_a_full_disk_is_no_crash(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    assert failure(tmp_path)["code"] == "disk_full"


def test_lines_in_error_are_left_out_and_counted(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path, model_dir, [*RECORDS, {"messages": []}, {"nothing": 1}], max_steps=1)
    assert run_job(tmp_path)["adapter"]["manifest"]["left_out"] == {"in error": 2}
    assert "Left out: 2 in error" in [one["text"] for one in of_kind(tmp_path, "log")]


def test_a_loss_that_is_not_finite_fails_the_job_by_step_and_lines(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = loop.target_cross_entropy, iter(range(100))
    broken_at = 3
    monkeypatch.setattr(
        loop, "target_cross_entropy", lambda *a: loss(*a) * (float("nan") if next(calls) == broken_at else 1)
    )
    make_job(tmp_path, model_dir, RECORDS, max_steps=9, save_steps=1)
    error = failure(tmp_path)
    assert error["code"] == "non_finite_loss"
    assert "step 4" in error["message"] and "lines of that step" in error["advice"]
    assert [one["step"] for one in of_kind(tmp_path, "checkpoint")] == [1, 2, 3]


def test_a_fault_of_the_trainer_is_reported_with_its_traceback(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(run, "make_optimizer", fail)
    make_job(tmp_path, model_dir, RECORDS)
    error = failure(tmp_path)
    assert (error["code"], error["message"]) == ("crashed_trainer", "The trainer broke off: RuntimeError: odd")
    assert "Traceback" in of_kind(tmp_path, "log")[-2]["text"]


def test_memory_that_runs_out_elsewhere_is_no_crash(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise loop.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.24 GiB\nmore")

    monkeypatch.setattr(run, "load_base", fail)
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    error = failure(tmp_path)
    assert error["code"] == "out_of_memory"
    assert error["message"].endswith("Tried to allocate 3.24 GiB")


def test_an_adapter_that_changes_nothing_is_no_success(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "learning_rate", lambda *_: lambda step: 0.0)
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    assert failure(tmp_path)["code"] == "adapter_empty"
    assert not (tmp_path / "adapter").exists()


def test_the_first_event_needs_no_heavy_import() -> None:
    code = "import sys, worker.trainer.__main__; print(sys.modules.keys() & {'torch', 'transformers', 'numpy'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_wrong_call_says_how_it_is_called(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker.trainer", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: python -m worker.trainer JOB_DIR" in done.stderr


def test_an_end_of_memory_in_the_optimizer_ends_the_job_before_anything_is_saved(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise loop.torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loop, "clip_grads_with_norm_", fail)
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    error = failure(tmp_path)
    assert error["code"] == "out_of_memory" and "optimizer moved the weights of step 1" in error["message"]
    assert of_kind(tmp_path, "checkpoint") == []


def test_an_end_of_memory_at_the_norm_is_tried_once_more(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total_norm, tried = loop.get_total_norm, []

    def fail_once(gradients: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise loop.torch.OutOfMemoryError("CUDA out of memory.")
        return total_norm(gradients)

    monkeypatch.setattr(loop, "get_total_norm", fail_once)
    make_job(tmp_path, model_dir, RECORDS, max_steps=1)
    assert (run_job(tmp_path)["outcome"], len(tried)) == ("succeeded", 2)


def test_a_validation_file_of_which_nothing_can_be_used_fails_the_job(model_dir: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "validation.jsonl", [{"messages": []}])
    make_job(tmp_path, model_dir, RECORDS, max_steps=1, validation_path=str(other))
    error = failure(tmp_path)
    assert error["code"] == "no_validation_examples" and "line 1" in error["message"]


def test_an_image_that_went_bad_is_named_by_its_line(vision: Vision) -> None:
    one = Example(7, torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.bool), (b"not an image",), ())
    with pytest.raises(JobFailed) as failed:
        vision.pixels(one)
    assert failed.value.code == "data_fault" and "Line 7 " in failed.value.message
