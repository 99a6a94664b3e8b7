"""A job that mixes datasets: its own order, its validation from each, and the same bits after a resume."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.conversations.render import Renderer
from app.schemas import JobSpec, Source
from tests.tiny import conversation, make_job, of_kind, run_job, write_jsonl
from worker.trainer.atomic import sha256_of
from worker.trainer.data import load_data
from worker.trainer.events import EventLog

SETTINGS = {"max_steps": 6, "save_steps": 3, "eval_steps": 100, "keep_checkpoints": 9, "validation_count": 6}


def mixed_job(folder: Path, model_dir: Path, second_weight: float = 0.5, **settings: Any) -> JobSpec:
    records = [[conversation(i) for i in range(first, first + count)] for first, count in ((0, 20), (100, 40))]
    paths = [write_jsonl(folder.parent / f"{place}.jsonl", part) for place, part in enumerate(records)]
    mixture = [
        Source(path=str(path), dataset={"name": path.name, "sha256": sha256_of(path)}, weight=weight)
        for path, weight in zip(paths, (2.0, second_weight), strict=True)
    ]
    return make_job(folder, model_dir, records[0], mixture=mixture, **SETTINGS, **settings)


def test_a_resumed_mixture_has_the_same_bits(tmp_path: Path, model_dir: Path) -> None:
    mixed_job(tmp_path / "whole", model_dir)
    whole = run_job(tmp_path / "whole")
    assert whole["outcome"] == "succeeded", whole
    half = tmp_path / "whole" / "checkpoints" / "step-00000003"
    mixed_job(tmp_path / "resumed", model_dir, resume_path=str(half), resume_step=3)
    assert run_job(tmp_path / "resumed")["outcome"] == "succeeded"
    assert [one["step"] for one in of_kind(tmp_path / "resumed", "step")] == [4, 5, 6]
    weights = [tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("whole", "resumed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert [one["weight"] for one in whole["adapter"]["manifest"]["mixture"]] == [2.0, 0.5]
    texts = [one["text"] for one in of_kind(tmp_path / "whole", "log")]
    assert "Dataset ready: 54 train examples, 6 validation" in texts
    assert "An epoch draws 36 times from the 18 train examples of 0.jsonl" in texts


def test_a_checkpoint_of_other_weights_is_of_another_job(tmp_path: Path, model_dir: Path) -> None:
    mixed_job(tmp_path / "one", model_dir)
    assert run_job(tmp_path / "one")["outcome"] == "succeeded"
    half = tmp_path / "one" / "checkpoints" / "step-00000003"
    mixed_job(tmp_path / "other", model_dir, second_weight=1.0, resume_path=str(half), resume_step=3)
    assert run_job(tmp_path / "other")["error"]["code"] == "checkpoint_mismatch"


@pytest.mark.parametrize("leak_free", [False, True])
def test_a_question_that_is_kept_aside_is_trained_in_no_other_dataset(
    tmp_path: Path, model_dir: Path, leak_free: bool
) -> None:
    questions = [conversation(i) for i in range(20)]
    paths = [write_jsonl(tmp_path / f"{n}.jsonl", one) for n, one in enumerate((questions, questions[::-1]))]
    mixture = [Source(path=str(path), dataset={"name": path.name}) for path in paths]
    settings = {"validation_share": 0.5, "validation_leak_free": leak_free}
    spec = make_job(tmp_path / "job", model_dir, [], mixture=mixture, **settings)
    with closing(EventLog(tmp_path / "events.jsonl")) as events:
        data = load_data(spec, Renderer.load(model_dir), events, lambda: None)
    trained, kept = ({tuple(one.ids.tolist()) for one in side} for side in (data.train, data.validation))
    assert len(data.validation) == 20 and trained and bool(trained & kept) is not leak_free


def test_a_job_that_keeps_all_records_aside_has_nothing_to_train_on(tmp_path: Path, model_dir: Path) -> None:
    make_job(tmp_path / "job", model_dir, [conversation(i) for i in range(20)], validation_count=20)
    error = run_job(tmp_path / "job")["error"]
    assert error["code"] == "no_examples" and "All 20 records" in error["message"]
