"""What makes a checkpoint belong to one job and no other."""

from pathlib import Path
from typing import Any

from app.conversations.normalize import NORMALIZER_VERSION
from app.conversations.render import Renderer
from app.schemas import JobSpec
from worker.trainer.base_files import identity_of

# They change when something is reported or kept, or how rows are laid out, but not what a step computes.
FREE_TO_CHANGE = frozenset(
    "row_tokens checkpointed_layers eval_steps save_steps save_minutes early_stopping_evals sample_prompts "
    "sample_steps keep_checkpoints keep_best guardian max_temperature validation_dataset_id".split()
)
# Left out where it has no effect, so that a checkpoint of before it was there still fits.
NEWER = (("validation_leak_free", False), ("validation_stratified", False))


def identity_of_job(spec: JobSpec, renderer: Renderer, num_train: int) -> dict[str, Any]:
    """Compared key by key when a checkpoint is resumed, so that each difference can be named."""
    config = spec.config.model_dump(mode="json")
    return {
        "dataset_sha256": spec.dataset.get("sha256"),
        "validation_sha256": (spec.validation_dataset or {}).get("sha256"),
        "base_model": identity_of(Path(spec.model_path)),
        "tokenizer_sha256": renderer.tokenizer_sha256,
        "template_sha256": renderer.template_sha256,
        "normalizer_version": NORMALIZER_VERSION,
        "num_train": num_train,
        "from_adapter_sha256": (spec.from_adapter or {}).get("sha256"),
        # None where a checkpoint of before there were mixtures has nothing.
        "mixture": [[one.dataset.get("sha256"), one.weight] for one in spec.mixture] or None,
        "config": {k: value for k, value in config.items() if k not in FREE_TO_CHANGE and (k, value) not in NEWER},
    }
