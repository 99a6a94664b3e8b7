"""One optimizer step of the same examples: by our loop, by Hugging Face's Trainer and by TRL's SFTTrainer."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerFast, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from app.schemas import TrainingConfig
from worker.trainer.attention import DENSE, use_attention
from worker.trainer.back_off import RowBudget
from worker.trainer.images import Example, Vision
from worker.trainer.loop import Stepper, make_optimizer
from worker.trainer.model import Trainee

LEARNING_RATE = 1e-5


@dataclass
class Clock(TrainerCallback):
    """Seconds of each step, and the gradient before the last one."""

    parameters: dict[str, torch.nn.Parameter]
    seconds: list[float] = field(default_factory=list)
    gradient: Tensor = field(default_factory=lambda: torch.zeros(1))
    _started: float = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = now()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.gradient = gradient_of(self.parameters)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(now() - self._started)


class Ours:
    def __init__(self, trainee: Trainee, examples: list[Example], vision: Vision, row_tokens: int) -> None:
        config = TrainingConfig(
            learning_rate=LEARNING_RATE, max_grad_norm=1e9, gradient_accumulation=len(examples), loss_mean="examples"
        )
        self.clock = Clock(trainee.parameters)
        self._examples = examples
        self._optimizer = make_optimizer(trainee, config)
        budget = RowBudget(row_tokens, print)
        self._stepper = Stepper(trainee, self._optimizer, config, vision, lambda step: LEARNING_RATE, budget, _nothing)

    def steps(self, count: int) -> None:
        """Timed from outside, as the others are: with the packing of the rows and all that goes with a step."""
        keep = self._optimizer.register_step_pre_hook(lambda *_: self.clock.on_pre_optimizer_step(None, None, None))
        steps = self._stepper.steps(lambda step: self._examples, 1, count)
        for _ in range(count):
            self.clock.on_step_begin(None, None, None)
            next(steps)
            self.clock.on_step_end(None, None, None)
        keep.remove()


class _InOrder(Trainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset)


class _InOrderSFT(SFTTrainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset)


class HuggingFace:
    """Batch 1 x accumulation 8, as the original system trained."""

    def __init__(self, trainee: Trainee, examples: list[Example], folder: Path, bf16: bool = False) -> None:
        use_attention(trainee.base, DENSE)
        self.clock = Clock(trainee.parameters)
        self._arguments = _arguments(folder, trainee, 1, len(examples), bf16)
        self._made = {"model": trainee.peft, "train_dataset": examples * 64, "data_collator": collate}

    def steps(self, count: int) -> None:
        with quietly():
            arguments = TrainingArguments(max_steps=count, remove_unused_columns=False, **self._arguments)
            trainer = _InOrder(args=arguments, callbacks=[self.clock], **self._made)
            trainer.remove_callback(PrinterCallback)
            trainer.train()


class TRL:
    """Its own loss, which makes no [T, V] tensor; `padding_free` puts a batch into one row."""

    def __init__(
        self,
        trainee: Trainee,
        examples: list[Example],
        folder: Path,
        tokenizer: Path,
        batch: int = 1,
        padding_free: bool = False,
        bf16: bool = False,
    ) -> None:
        use_attention(trainee.base, DENSE)
        self.clock = Clock(trainee.parameters)
        self._arguments = _arguments(folder, trainee, batch, len(examples) // batch, bf16)
        self._arguments |= {
            "padding_free": padding_free,
            "max_length": None,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        records = [{"input_ids": ids_of(one), "labels": labels_of(one)} for one in examples * 64]
        reader = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer), pad_token="<|endoftext|>", eos_token="<|im_end|>"
        )
        self._made = {"model": trainee.peft, "train_dataset": Dataset.from_list(records), "processing_class": reader}

    def steps(self, count: int) -> None:
        with quietly():
            arguments = SFTConfig(max_steps=count, **self._arguments)
            trainer = _InOrderSFT(args=arguments, callbacks=[self.clock], **self._made)
            trainer.remove_callback(PrinterCallback)
            trainer.train()


def _arguments(folder: Path, trainee: Trainee, batch: int, accumulation: int, bf16: bool) -> dict[str, Any]:
    recomputed = any(layer.gradient_checkpointing for layer in trainee.base.model.language_model.layers)
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "max_grad_norm": 1e9,
        "gradient_checkpointing": recomputed,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recomputed else None,
        "bf16": bf16,
        "use_cpu": trainee.device.type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def collate(examples: list[Example]) -> dict[str, Tensor]:
    (one,) = examples
    return {"input_ids": one.ids.long()[None], "labels": torch.tensor(labels_of(one))[None]}


def ids_of(example: Example) -> list[int]:
    ids: list[int] = example.ids.tolist()
    return ids


def labels_of(example: Example) -> list[int]:
    labels: list[int] = torch.where(example.targets, example.ids.long(), -100).tolist()
    return labels


def gradient_of(parameters: dict[str, torch.nn.Parameter]) -> Tensor:
    return torch.cat([one.grad.detach().float().flatten() for one in parameters.values() if one.grad is not None])


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def now() -> float:
    """Seconds: of the processor where there is no GPU, so that one thread's time does not count what others take."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def quietly() -> Iterator[None]:
    """Without their hints; what they measure is on the table."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _nothing() -> None:
    pass
