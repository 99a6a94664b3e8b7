"""A whole job in its directory: what it writes, and that its adapter is what it says."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from app.conversations.render import Renderer
from app.conversations.split import choose_validation, num_for_validation
from app.schemas import JobSpec
from tests.tiny import CPU, conversation, make_job, of_kind, picture_conversation, read_events, run_job, write_jsonl
from worker.trainer.atomic import list_files
from worker.trainer.encode import tokenize
from worker.trainer.images import Example
from worker.trainer.model import load_base

RECORDS = [conversation(i) for i in range(120)]


@pytest.fixture(scope="module")
def done(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobSpec, Path, dict[str, Any]]:
    """A finished job of 60 steps with 6 validation examples; others look at what it left."""
    folder = tmp_path_factory.mktemp("jobs") / "done"
    settings = {"epochs": 4, "gradient_accumulation": 8, "lora_r": 32, "lora_alpha": 32, "validation_share": 0.05}
    spec = make_job(folder, model_dir, RECORDS, **settings, sample_prompts=2, eval_steps=20, keep_checkpoints=1)
    return spec, folder, run_job(folder)


Done = tuple[JobSpec, Path, dict[str, Any]]


def test_events_are_numbered_without_a_gap(done: Done) -> None:
    events = read_events(done[1])
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    assert events[0] | {"at": ""} == {
        "seq": 1, "at": "", "kind": "state", "state": "claimed", "phase": "loading",
        "message": "Starting the trainer", "resume_step": 0,
    }  # fmt: skip


def test_phases_come_in_their_order(done: Done) -> None:
    states = [(one["state"], one["phase"]) for one in of_kind(done[1], "state")]
    assert states == [
        ("claimed", "loading"),
        ("claimed", "tokenizing"),
        ("claimed", "planning"),
        ("claimed", "loading"),
        ("running", "training"),
        ("running", "saving"),
    ]


def test_auto_is_resolved_before_the_start(done: Done) -> None:
    (planning,) = [one for one in of_kind(done[1], "state") if one["phase"] == "planning"]
    found = planning["resolved"]
    assert (found["num_steps"], found["eval_steps"], found["save_steps"], found["sample_steps"]) == (60, 20, 3, 20)
    assert (found["num_train"], found["num_validation"], found["num_dropped"]) == (114, 6, 0)
    assert (found["row_tokens"], found["checkpointed_layers"]) == (4096, 2)


def test_every_step_is_reported_once(done: Done) -> None:
    steps = of_kind(done[1], "step")
    assert [one["step"] for one in steps] == list(range(1, 61))
    assert steps[-1]["epoch"] == 4.0
    assert steps[-1]["eta_s"] == 0.0
    assert sum(one["num_targets"] for one in steps) == 4 * done[2]["adapter"]["manifest"]["resolved"]["num_targets"]


def test_the_log_says_what_the_original_said(done: Done) -> None:
    texts = [one["text"] for one in of_kind(done[1], "log")]
    assert "Dataset ready: 114 train examples, 6 validation" in texts
    assert 'System prompt "You are a helpful assistant.", put in front of 120 of 120 records' in texts
    assert "Training started" in texts


def test_the_last_step_is_evaluated_and_saved(done: Done) -> None:
    assert [one["step"] for one in of_kind(done[1], "eval")] == [20, 40, 60]
    last = of_kind(done[1], "checkpoint")[-1]
    assert last["step"] == 60
    assert last["eval_loss"] == of_kind(done[1], "eval")[-1]["loss"]


def test_a_checkpoint_event_names_its_files_and_hashes(done: Done) -> None:
    last = of_kind(done[1], "checkpoint")[-1]
    assert last["path"] == "checkpoints/step-00000060"
    for one in last["files"]:
        data = (done[1] / one["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["size"], one["sha256"])
    assert last["size"] == sum(one["size"] for one in last["files"])


def test_only_the_newest_and_the_best_checkpoint_stay(done: Done) -> None:
    best = done[2]["adapter"]["manifest"]["best_step"]
    kept = {int(one.name[5:]) for one in (done[1] / "checkpoints").iterdir()}
    assert kept == {60, best}


def test_it_learns_the_answers(done: Done) -> None:
    first, last = of_kind(done[1], "sample")[:2], of_kind(done[1], "sample")[-2:]
    assert [one["answer"] for one in last] == [one["wanted"] for one in last]
    assert all(one["base_answer"] != one["wanted"] for one in first)


def test_the_outcome_names_the_adapters_files(done: Done) -> None:
    outcome = done[2]
    assert (outcome["outcome"], outcome["step"], outcome["error"]) == ("succeeded", 60, None)
    names = [one["path"] for one in outcome["adapter"]["files"]]
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert sorted(one.name for one in (done[1] / "adapter").iterdir()) == names


def test_the_manifest_says_what_went_in(done: Done, model_dir: Path) -> None:
    spec, _, outcome = done
    manifest = outcome["adapter"]["manifest"]
    assert manifest["dataset"]["sha256"] == spec.dataset["sha256"]
    assert manifest["chat_template_sha256"] == Renderer.load(model_dir).template_sha256
    assert manifest["config"]["eval_steps"] == 20 and manifest["config"]["row_tokens"] == 4096
    assert manifest["validation_loss"] == of_kind(done[1], "eval")[-1]["loss"]
    assert (manifest["step"], manifest["weights"], manifest["num_trainable"]) == (60, "last step", 65_536)


def test_the_card_gives_the_system_prompt(done: Done) -> None:
    card = (done[1] / "adapter" / "README.md").read_text("utf-8")
    assert "You are a helpful assistant." in card
    assert "PeftModel.from_pretrained" in card


# peft asks transformers by a name that is on its way out.
OLD_NAME = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def reloaded(folder: Path, model_dir: Path, use_qlora: bool) -> PeftModel:
    return PeftModel.from_pretrained(load_base(model_dir, use_qlora, CPU), folder / "adapter").eval()


def validation_examples(spec: JobSpec) -> list[Example]:
    found = tokenize(Path(spec.dataset_path), Renderer.load(Path(spec.model_path)), spec.config, lambda count: None)
    wanted = num_for_validation(len(RECORDS), spec.config.validation_share)
    _, kept = choose_validation(len(RECORDS), wanted, spec.config.seed)
    return [one for i in kept if (one := found.examples[i])]


@torch.no_grad()
def loss_by_hugging_face(model: PeftModel, examples: list[Example]) -> float:
    total = 0.0
    for one in examples:
        ids = one.ids.long()[None]
        labels = torch.where(one.targets[None], ids, -100)
        total += model(input_ids=ids, labels=labels).loss.item() * one.num_targets
    return total / sum(one.num_targets for one in examples)


@OLD_NAME
def test_hugging_faces_forward_gives_the_last_validation_loss(done: Done, model_dir: Path) -> None:
    loss = loss_by_hugging_face(reloaded(done[1], model_dir, True), validation_examples(done[0]))
    assert loss == pytest.approx(of_kind(done[1], "eval")[-1]["loss"], rel=2e-3, abs=2e-4)


@OLD_NAME
def test_plain_peft_gives_the_same_answers(done: Done, model_dir: Path) -> None:
    model, renderer = reloaded(done[1], model_dir, True), Renderer.load(model_dir)
    for sample, example in zip(of_kind(done[1], "sample")[-2:], validation_examples(done[0]), strict=False):
        prompt = example.ids[: example.last_answer()].long()[None]
        made = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40)
        answer = renderer.decode(made[0, prompt.shape[1] :].tolist(), skip_special_tokens=True)
        assert answer == sample["answer"]


def test_images_are_trained(model_dir: Path, tmp_path: Path) -> None:
    records = [picture_conversation(i, num_images=1 + i % 2) for i in range(6)] + RECORDS[:2]
    make_job(tmp_path, model_dir, records, max_steps=8, use_qlora=False)
    assert run_job(tmp_path)["outcome"] == "succeeded"
    losses = [one["loss"] for one in of_kind(tmp_path, "step")]
    assert losses[-1] < 0.8 * losses[0]


def test_a_validation_file_leaves_all_records_to_training(model_dir: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "validation.jsonl", RECORDS[:3])
    make_job(tmp_path, model_dir, RECORDS[:40], max_steps=2, validation_path=str(other), validation_dataset={"id": 2})
    manifest = run_job(tmp_path)["adapter"]["manifest"]
    assert (manifest["num_train"], manifest["num_validation"]) == (40, 3)


def test_early_stopping_exports_the_best_weights(model_dir: Path, tmp_path: Path) -> None:
    wrong = [{"messages": [one["messages"][0], {"role": "assistant", "content": "No idea."}]} for one in RECORDS[:3]]
    other = write_jsonl(tmp_path / "validation.jsonl", wrong)
    settings = {"max_steps": 60, "eval_steps": 2, "early_stopping_evals": 2, "validation_path": str(other)}
    make_job(tmp_path, model_dir, RECORDS[:40], **settings)
    outcome, evals = run_job(tmp_path), of_kind(tmp_path, "eval")
    best = min(evals, key=lambda one: float(one["loss"]))
    assert outcome["step"] == best["step"] + 4 < 60
    manifest = outcome["adapter"]["manifest"]
    wanted = best["step"], best["loss"], "best evaluation"
    assert (manifest["step"], manifest["validation_loss"], manifest["weights"]) == wanted


def test_the_adapter_is_copied_where_it_is_wanted(model_dir: Path, tmp_path: Path) -> None:
    make_job(tmp_path / "job", model_dir, RECORDS[:8], max_steps=1, output_path=str(tmp_path / "out"))
    run_job(tmp_path / "job")
    assert list_files(tmp_path / "out") == list_files(tmp_path / "job" / "adapter")
