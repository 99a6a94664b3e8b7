"""Encoded records kept on disk, so that a dataset is tokenized once for all jobs that encode it alike.

    tokens/<key>/records.safetensors    numbers of all records, end to end, and the bytes of their images
    tokens/<key>/index.json             the hash of that file, the shares of each record, what was rejected

The key is a hash of everything the tokens depend on; `max_length` and `truncation` are not among it. A folder appears
whole or not at all, its hash is verified when it is read, and the least recently used ones go when all of them
outgrow their share of the disk. Arrays are mapped into memory: what is not trained is not read.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.conversations.normalize import NORMALIZER_VERSION
from app.conversations.render import Renderer
from app.schemas import TrainingConfig
from worker.trainer.atomic import hash_json, publish_dir, sha256_of, write_json
from worker.trainer.encode import Record, Records

FORMAT = 1
MAX_BYTES = 4 * 2**30
# A folder under its temporary name for so long belongs to a process that is gone.
STALE_S = 3600.0
ARRAYS, INDEX = "records.safetensors", "index.json"


@dataclass(frozen=True)
class TokenCache:
    """Nothing here may stop a job: a folder that cannot be written is a folder without a cache."""

    folder: Path
    max_bytes: int = MAX_BYTES

    def read(self, key: str) -> Records | None:
        """The records under that key; None where there are none, or where they are damaged."""
        place = self.folder / key
        try:
            index = json.loads((place / INDEX).read_text("utf-8"))
            if index["format"] != FORMAT or index["sha256"] != sha256_of(place / ARRAYS):
                raise ValueError("it is not what was written")
            records = _unpacked(load_file(place / ARRAYS), index)
            os.utime(place)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, SafetensorError):
            shutil.rmtree(place, ignore_errors=True)
            return None
        return records

    def write(self, key: str, found: Records) -> bool:
        """Answers whether the records were kept."""
        temporary = self.folder / f".{key}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(exist_ok=True)
            arrays, index = _packed(found)
            save_file(arrays, temporary / ARRAYS)
            index |= {"format": FORMAT, "sha256": sha256_of(temporary / ARRAYS)}
            write_json(temporary / INDEX, index)
            publish_dir(temporary, self.folder / key)
            self._make_room()
        except OSError:
            # A full or read-only disk, or another job that was faster with the same records.
            return (self.folder / key).is_dir()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return (self.folder / key).is_dir()

    def _make_room(self) -> None:
        used = 0
        for place in sorted(self.folder.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True):
            if place.name.startswith("."):
                goes = time.time() - place.stat().st_mtime > STALE_S
            else:
                used += sum(one.stat().st_size for one in place.iterdir())
                goes = used > self.max_bytes
            if goes:
                shutil.rmtree(place, ignore_errors=True)


def cache_key(dataset: Path, renderer: Renderer, config: TrainingConfig) -> str:
    """The same for jobs that encode this file alike, and for no others."""
    rules = renderer.image_rules.limited(config.min_pixels, config.max_pixels)
    return hash_json(
        {
            "dataset": sha256_of(dataset),
            "system_prompt": config.system_prompt,
            "train_on": config.train_on,
            "tokenizer": renderer.tokenizer_sha256,
            "template": renderer.template_sha256,
            "normalizer": NORMALIZER_VERSION,
            "images": [rules.patch_size, rules.merge_size, rules.min_pixels, rules.max_pixels],
            "format": FORMAT,
        }
    )


def _packed(found: Records) -> tuple[dict[str, Tensor], dict[str, Any]]:
    whole = [one for one in found.records if one is not None]
    images = [data for one in whole for data in one.images]
    arrays = {
        "ids": _joined([one.ids for one in whole], torch.int32),
        "targets": torch.from_numpy(np.packbits(_joined([one.targets for one in whole], torch.bool).numpy())),
        "lengths": torch.tensor([-1 if one is None else len(one.ids) for one in found.records], dtype=torch.int32),
        "lines": torch.tensor([one.line for one in whole], dtype=torch.int32),
        "image_counts": torch.tensor([len(one.images) for one in whole], dtype=torch.int32),
        "image_sizes": torch.tensor([len(data) for data in images], dtype=torch.int64),
        "image_grids": torch.tensor([grid for one in whole for grid in one.grids], dtype=torch.int32).reshape(-1, 3),
        "image_spans": torch.tensor([span for one in whole for span in one.spans], dtype=torch.int32).reshape(-1, 2),
        "image_bytes": torch.from_numpy(np.frombuffer(bytearray(b"".join(images)), dtype=np.uint8)),
    }
    index = {
        "num_injected": found.num_injected,
        "num_rejected": found.num_rejected,
        "first_error": found.first_error,
        "num_tokens": len(arrays["ids"]),
    }
    return arrays, index


def _joined(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=dtype)


def _unpacked(arrays: dict[str, Tensor], index: dict[str, Any]) -> Records:
    ids = arrays["ids"]
    targets = torch.from_numpy(np.unpackbits(arrays["targets"].numpy(), count=len(ids)).view(np.bool_))
    lengths: list[int] = arrays["lengths"].tolist()
    starts = [0, *accumulate(max(length, 0) for length in lengths)]
    images = _images(arrays)
    lines, counts = iter(arrays["lines"].tolist()), iter(arrays["image_counts"].tolist())
    records: list[Record | None] = []
    for length, (start, end) in zip(lengths, pairwise(starts), strict=True):
        if length < 0:
            records.append(None)
            continue
        own = [next(images) for _ in range(next(counts))]
        data, grids, spans = zip(*own, strict=True) if own else ((), (), ())
        records.append(Record(next(lines), ids[start:end], targets[start:end], data, grids, spans))
    return Records(records, index["num_injected"], index["num_rejected"], index["first_error"])


def _images(arrays: dict[str, Tensor]) -> Any:
    """(bytes, grid, span) of one image after the other."""
    ends = list(accumulate(arrays["image_sizes"].tolist()))
    pool = arrays["image_bytes"].numpy()
    for start, end, grid, span in zip(
        [0, *ends], ends, arrays["image_grids"].tolist(), arrays["image_spans"].tolist(), strict=False
    ):
        yield pool[start:end].tobytes(), tuple(grid), tuple(span)
