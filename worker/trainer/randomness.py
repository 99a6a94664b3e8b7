"""The state of every random generator, so that a repeated or resumed step draws the same dropout."""

import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def torch_state() -> list[torch.Tensor]:
    """The generators that dropout draws from: the CPU's, then each GPU's."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def restore_torch(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if torch.cuda.is_available() and len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


def everything() -> dict[str, Any]:
    """All generators, in types that `torch.load(weights_only=True)` reads."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy_state = [str(name), torch.tensor(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), gauss]
    return {"torch": torch_state(), "python": random.getstate(), "numpy": numpy_state}


def restore_everything(states: dict[str, Any]) -> None:
    restore_torch(states["torch"])
    random.setstate(states["python"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, gauss))
