"""bitsandbytes in a tenth of a second instead of more than one."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def import_bitsandbytes() -> None:
    """Import it without torch's compiler, which it asks for four functions that stand in where it has no kernel.

    They run as they are written, as they do anyway where no compiler is found.
    """
    torch: Any = import_module("torch")
    compiler, torch.compile = torch.compile, _as_it_is
    try:
        import_module("bitsandbytes")
    finally:
        torch.compile = compiler


def _as_it_is(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return function if function is not None else _as_it_is
