"""All that went into an adapter, so that it can be made again and served as it was trained."""

from typing import Any

from app.conversations.normalize import NORMALIZER_VERSION
from app.conversations.render import Renderer
from worker.trainer.events import now
from worker.trainer.export import versions
from worker.trainer.memory import Meter
from worker.trainer.resolve import with_resolved
from worker.trainer.session import Session


def describe(
    session: Session, renderer: Renderer, step: int, validation_loss: float | None, meter: Meter
) -> dict[str, Any]:
    """`manifest.json`. `step` is the one whose weights are exported, `validation_loss` theirs."""
    spec, trainee = session.job.spec, session.stepper.trainee
    return {
        "name": spec.name,
        "job_id": spec.job_id,
        "attempt": spec.attempt,
        "created_at": now(),
        "base_model": spec.model,
        "base_model_revision": spec.model_revision,
        "base_model_identity": session.identity["base_model"],
        "from_adapter": spec.from_adapter,
        "dataset": spec.dataset,
        "mixture": [one.dataset | {"weight": one.weight} for one in spec.mixture] or None,
        "validation_dataset": spec.validation_dataset,
        "normalizer_version": NORMALIZER_VERSION,
        "system_prompt": spec.config.system_prompt,
        "chat_template_sha256": renderer.template_sha256,
        "tokenizer_sha256": renderer.tokenizer_sha256,
        "config": with_resolved(spec.config, session.resolved),
        "resolved": session.resolved.as_json(),
        "left_out": session.data.left_out,
        "num_train": session.resolved.num_train,
        "num_validation": session.resolved.num_validation,
        "num_trainable": trainee.num_trainable,
        "percent_trainable": round(100 * trainee.num_trainable / trainee.num_parameters, 3),
        "step": step,
        "steps_done": session.progress.step,
        "weights": "best evaluation" if session.best is not None else "last step",
        "train_loss": session.progress.loss,
        "validation_loss": validation_loss,
        "best_step": session.progress.best_step or None,
        "best_validation_loss": session.progress.best_loss,
        "memory": meter.as_json(),
        "versions": versions(trainee.device),
    }
