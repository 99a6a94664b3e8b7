"""Toy models, data and jobs for the trainer's tests: real code paths, tiny weights."""

import base64
import io
import json
import random
import signal
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from app.schemas import TINY_MODEL, JobSpec, TrainingConfig
from worker.trainer.__main__ import main
from worker.trainer.atomic import sha256_of
from worker.trainer.images import Example, Vision
from worker.trainer.model import Trainee, add_lora, load_base

CPU = torch.device("cpu")
NAMES = "Ada Ben Cleo Dora Emil Fay Gus Hana".split()
TOWNS = "Rome Oslo Bern Cairo Lima Paris Quito Tunis".split()


def conversation(number: int) -> dict[str, Any]:
    """A question whose answer is fixed by its name, so that a tiny model can learn it."""
    name = NAMES[number % len(NAMES)]
    answer = {"name": name, "town": TOWNS[number % len(TOWNS)]}
    return {
        "messages": [
            {"role": "user", "content": f"Where does {name} live? ({number})"},
            {"role": "assistant", "content": json.dumps(answer)},
        ]
    }


def picture_uri(seed: int, width: int = 64, height: int = 96) -> str:
    drawn = random.Random(seed).randbytes(width * height * 3)
    stream = io.BytesIO()
    Image.frombytes("RGB", (width, height), drawn).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def picture_conversation(number: int, num_images: int = 1) -> dict[str, Any]:
    images = [{"type": "image", "image": picture_uri(number + 100 * i, 64 + 32 * i, 96)} for i in range(num_images)]
    return {
        "messages": [
            {"role": "user", "content": [*images, {"type": "text", "text": f"What is this? ({number})"}]},
            {"role": "assistant", "content": f"Picture {number}, {num_images} of them."},
        ]
    }


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    return path


def make_job(folder: Path, model_dir: Path, records: list[dict[str, Any]], **settings: Any) -> JobSpec:
    """A job directory with its `job.json`. What is not set is small: rank 8, no samples, steps of 4 examples."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = write_jsonl(folder / "dataset.jsonl", records)
    fields = {name: settings.pop(name) for name in tuple(settings) if name in JobSpec.model_fields}
    config = {"gradient_accumulation": 4, "learning_rate": 1e-2, "lora_r": 8, "lora_alpha": 16, "sample_prompts": 0}
    spec = JobSpec(
        job_id=1,
        attempt=1,
        name="toy",
        model=TINY_MODEL,
        model_path=str(model_dir),
        dataset_path=str(dataset),
        dataset={"id": 1, "name": "dataset.jsonl", "sha256": sha256_of(dataset), "size": dataset.stat().st_size},
        config=TrainingConfig(**{**config, **settings}),
    ).model_copy(update=fields)
    (folder / "job.json").write_text(spec.model_dump_json(), "utf-8")
    return spec


def make_trainee(
    model_dir: Path, dtype: torch.dtype = torch.float32, use_qlora: bool = False, **settings: Any
) -> Trainee:
    """The tiny model with an adapter that is not a no-op, without dropout unless it is set."""
    config = TrainingConfig(**{"lora_r": 8, "lora_dropout": 0.0, **settings})
    torch.manual_seed(1)
    base = load_base(model_dir, use_qlora, CPU)
    trainee = add_lora(base if use_qlora else base.to(dtype), config, CPU)
    with torch.no_grad():
        for name, one in trainee.parameters.items():
            if dtype == torch.float64:
                one.data = one.data.double()
            if "lora_B" in name:
                one.normal_(std=0.1)
    return trainee


def make_example(line: int, num_tokens: int, num_targets: int) -> Example:
    """Random text tokens; the last ones are the targets."""
    generator = torch.Generator().manual_seed(line)
    targets = torch.zeros(num_tokens, dtype=torch.bool)
    targets[num_tokens - num_targets :] = True
    return Example(line, torch.randint(10, 500, (num_tokens,), generator=generator, dtype=torch.int32), targets)


def make_examples(*sizes: tuple[int, int]) -> list[Example]:
    return [make_example(line, *size) for line, size in enumerate(sizes, start=1)]


def vision_of(model_dir: Path) -> Vision:
    return Vision(model_dir)


def read_events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]


def run_job(folder: Path) -> dict[str, Any]:
    """Carries out the job of a directory in this process; answers `outcome.json`."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        code = main([str(folder)])
    finally:
        signal.signal(signal.SIGTERM, handler)
    outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text("utf-8"))
    assert code == (1 if outcome["outcome"] == "failed" else 0)
    return outcome


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [one for one in read_events(folder) if one["kind"] == kind]
