"""Exact token counts of datasets, each made once by a child process and remembered while the control center runs."""

import asyncio
import json
from typing import Any, NamedTuple

from app.children import output_of
from app.errors import Conflict

MOST_KEPT = 200
Counted = dict[str, Any]


class Key(NamedTuple):
    """Arguments of `app.count_tokens`, and what the file holds: it may be read in another way later."""

    lines: str
    folder: str
    options: str
    content: str


class TokenCounts:
    """Lives on the event loop; one child at a time, so that counting leaves room for everything else."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Counted]] = {}
        self._one = asyncio.Lock()

    async def get(self, key: Key, patience_s: float) -> Counted | None:
        """The counts, or None where they take longer than that: ask again. Raises `Conflict` where it broke down."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._count(key))
            self._forget_old()
        done, _ = await asyncio.wait([task], timeout=patience_s)
        if not done:
            return None
        if task.cancelled() or task.exception():
            self._tasks.pop(key, None)
        return task.result()

    def _forget_old(self) -> None:
        too_many = max(0, len(self._tasks) - MOST_KEPT)
        for key in [key for key, task in self._tasks.items() if task.done()][:too_many]:
            del self._tasks[key]

    async def _count(self, key: Key) -> Counted:
        async with self._one:
            told = await output_of("-m", "app.count_tokens", *key[:3])
        if told is None:
            raise Conflict("The tokens could not be counted; the log has the reason.")
        counted: Counted = json.loads(told)
        return counted

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
