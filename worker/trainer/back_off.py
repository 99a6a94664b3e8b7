"""Rows that fit: where memory runs out, the same work again in shorter rows, with nothing left over from before.

The budget of a row is halved and stays so. A row of one example cannot be shortened: then every layer is recomputed
in the backward pass, and if that does not help either, the job fails by that example's line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from worker.trainer.faults import JobFailed
from worker.trainer.images import Example
from worker.trainer.packing import fill_rows

# What the libraries below torch say where torch itself would raise `OutOfMemoryError`.
SAYINGS = ("out of memory", "ALLOC_FAILED", "can't allocate memory")

Made = TypeVar("Made")


def _nothing_to_spare() -> bool:
    return False


@dataclass
class RowBudget:
    """How many tokens a row may hold. Each lowering is said in a sentence.

    `spare` frees memory in another way when one example alone is too much; it answers whether it could.
    """

    tokens: int
    say: Callable[[str], None]
    spare: Callable[[], bool] = _nothing_to_spare

    def run(
        self, examples: list[Example], doing: str, work: Callable[[list[int]], Made], undo: Callable[[], None]
    ) -> list[Made]:
        """Does `work` on the indices of every row of the examples, from the first row anew where memory ran out.

        `undo` takes back what rows have done so far. It is called before each repetition, and before any exception
        leaves.
        """
        while True:
            made: list[Made] = []
            row: list[int] = []
            try:
                for row in fill_rows([one.num_tokens for one in examples], self.tokens):
                    made.append(work(row))
                return made
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    undo()
                    raise
            except BaseException:
                undo()
                raise
            # Outside the handlers: the traceback holds the tensors of the failed row.
            made.clear()
            undo()
            self._lower([examples[i] for i in row], doing)

    def _lower(self, row: list[Example], doing: str) -> None:
        free_cached()
        num_tokens = sum(one.num_tokens for one in row)
        if len(row) > 1:
            old, self.tokens = self.tokens, min(self.tokens, num_tokens) // 2
            self.say(f"Out of memory in {doing}: rows hold {self.tokens:,} tokens from now on, not {old:,}")
        elif self.spare():
            self.say(f"Out of memory in {doing}: every layer is recomputed from now on")
        else:
            raise too_large(row[0])


def free_cached() -> None:
    """Gives what torch keeps for later back to the card."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def memory_code() -> str:
    """The error's code where memory ran out: the GPU's, or the machine's."""
    return "cuda_oom" if torch.cuda.is_available() else "out_of_memory"


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(one in str(error) for one in SAYINGS)


def too_large(example: Example) -> JobFailed:
    return JobFailed(
        memory_code(),
        f"Line {example.line} alone, with {example.num_tokens:,} tokens, does not fit into this machine's memory.",
        f"Set max_length below {example.num_tokens:,}, or choose a machine with more memory.",
    )
