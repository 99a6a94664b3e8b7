"""Examples as the trainer holds them, and the vision side of the base model: where image tokens are, what pixels."""

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from app.conversations.images import open_rgb
from worker.trainer.base_files import read_json
from worker.trainer.faults import JobFailed


@dataclass(frozen=True)
class Example:
    """One conversation as T token ids, with the mask of its targets.

    The first token is never a target, as nothing predicts it. Images stay compressed until their row is made.
    """

    line: int
    ids: Tensor  # [T] int32
    targets: Tensor  # [T] bool
    images: tuple[bytes, ...] = ()
    grids: tuple[tuple[int, int, int], ...] = ()

    @cached_property
    def num_targets(self) -> int:
        return int(self.targets.sum())

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def last_answer(self) -> int:
        """Where the last run of targets begins: before it stands the prompt of that answer."""
        found = self.targets.nonzero().squeeze(1)
        breaks = (found.diff() != 1).nonzero().squeeze(1)
        return int(found[int(breaks[-1]) + 1 if len(breaks) else 0])


def data_fault(line: int, why: str) -> JobFailed:
    return JobFailed(
        "data_fault",
        f"Line {line} of the dataset cannot be trained: {why}.",
        "Mend or remove that line, add the dataset again, and make a new job on it.",
    )


class Vision:
    """The image token, the merge size and the pixel limits of a base model's directory."""

    def __init__(self, folder: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> None:
        config = read_json(folder / "config.json", folder.name)
        self.image_token: int = config.get("image_token_id", 151655)
        self.merge: int = config.get("vision_config", {}).get("spatial_merge_size", 2)
        self._folder, self._min_pixels, self._max_pixels = folder, min_pixels, max_pixels

    @cached_property
    def _processor(self) -> Any:
        # By its class, not by AutoImageProcessor: that one wants torchvision, which does not go along with a CPU torch.
        processor = Qwen2VLImageProcessorPil.from_pretrained(self._folder, local_files_only=True)
        size = dict(processor.size)
        size["shortest_edge"] = self._min_pixels or size["shortest_edge"]
        size["longest_edge"] = self._max_pixels or size["longest_edge"]
        processor.size = size
        return processor

    def pixels(self, example: Example) -> tuple[Tensor, Tensor]:
        """Patches [P, D] of all images of an example, and their grids [images, 3]."""
        pictures = [self._open(data, example.line) for data in example.images]
        made = self._processor(images=pictures, return_tensors="pt")
        grids = made["image_grid_thw"]
        if [tuple(one) for one in grids.tolist()] != list(example.grids):
            raise data_fault(example.line, "its images do not have the size they were counted with")
        return made["pixel_values"], grids

    @staticmethod
    def _open(data: bytes, line: int) -> Image:
        try:
            return open_rgb(data)
        except ValueError as error:
            raise data_fault(line, f"an image: {error}") from error

    def spans(self, ids: Tensor) -> list[tuple[int, int]]:
        """Start and end of each run of image tokens."""
        spans, place = [], 0
        for is_image, run in groupby((ids == self.image_token).tolist()):
            length = len(list(run))
            if is_image:
                spans.append((place, place + length))
            place += length
        return spans

    def positions_of_images(self, ids: Tensor) -> Tensor:
        """1 where an image token stands, as the model's `mm_token_type_ids`."""
        return (ids == self.image_token).int()
