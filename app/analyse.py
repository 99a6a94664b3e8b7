"""`python -m app.analyse FILE LINES READING TRAINED`: reads a dataset in a process of its own.

A file that is no plain JSONL is first unpacked into LINES, which is read then; READING is JSON, {} for "as it is", and
so is TRAINED, [[file, name, id], ...]: what is asked there must not be asked here. What it saw it tells as JSON lines:

    {"unpacked": {"container", "size", "sha256"}}           null for plain JSONL; before all but progress
    {"progress": 0.4, "num_records": n, "num_valid": m}     about twice a second
    {"findings": [...]}                                     at most 500 each, every finding once, by line
    {"done": true, "num_records", "num_valid", "findings": {kind: count}, "statistics": {...}}     last

Memory does not grow with the file. A file that cannot be read ends with {"error": "..."} and exit status 2.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.containers.reading import Reading
from app.conversations.containers.streams import Unpackable
from app.conversations.containers.unpack import unpack
from app.conversations.findings import Finding
from app.conversations.inspection import inspect
from app.conversations.lints import leakage
from app.conversations.lints.leakage import Trained
from app.conversations.lints.whole import merged
from app.conversations.part import Options

BATCH = 500
PROGRESS_EVERY_S = 0.5
# How far it is when the file is unpacked, when what is trained on was read, and when the lines were looked through.
UNPACKED, COMPARED, LOOKED_THROUGH = 0.3, 0.5, 0.9

Say = Callable[[dict[str, Any]], None]


class Progress:
    """Says how far the reading is, now and then; a step that there was not is no share of the way."""

    def __init__(self, say: Say) -> None:
        self._say, self._spoke_at, self._begun = say, time.monotonic(), 0.0

    def begin_at(self, share: float) -> None:
        """The steps before this one are done."""
        self._begun = share

    def of_unpacking(self, share: float) -> None:
        self._tell(UNPACKED, share, 0, 0)

    def of_trained(self, share: float) -> None:
        self._tell(COMPARED, share, 0, 0)

    def of_lines(self, share: float, num_records: int, num_valid: int) -> None:
        self._tell(LOOKED_THROUGH, share, num_records, num_valid)

    def _tell(self, end: float, share: float, num_records: int, num_valid: int) -> None:
        if time.monotonic() - self._spoke_at >= PROGRESS_EVERY_S:
            self._spoke_at = time.monotonic()
            reached = self._begun + (end - self._begun) * share
            self._say({"progress": round(reached, 4), "num_records": num_records, "num_valid": num_valid})


def unpacked(path: Path, lines: Path, reading: Reading, say: Say, progress: Progress) -> Path:
    """The file whose lines are the records."""
    found = unpack(path, lines, reading, progress.of_unpacking)
    say({"unpacked": msgspec.to_builtins(found)})
    progress.begin_at(UNPACKED if found else 0.0)
    return lines if found else path


def analyse(path: Path, say: Say, progress: Progress, trained: Sequence[Trained] = ()) -> None:
    """Read the whole file of lines; every message goes to `say`."""
    kinds = Counter[str]()
    leaks: Iterator[Finding] = iter(())
    if trained:
        leaks = leakage.find(trained, path, progress.of_trained)
        progress.begin_at(COMPARED)
    with inspect(path, Options(), progress.of_lines) as seen:
        for findings in _batched(merged(seen.findings(), leaks), BATCH):
            kinds.update(finding.kind for finding in findings)
            say({"findings": [finding.as_json() for finding in findings]})
        totals = {"num_records": seen.num_records, "num_valid": seen.num_valid, "findings": dict(kinds)}
        say({"done": True, **totals, "statistics": seen.totals()})


def _batched(findings: Iterator[Finding], size: int) -> Iterator[list[Finding]]:
    while batch := list(islice(findings, size)):
        yield batch


def _print(message: dict[str, Any]) -> None:
    # ASCII alone, so that the reader needs no word about the encoding of a pipe.
    sys.stdout.write(json.dumps(message, allow_nan=False) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if len(arguments) != 4:
        sys.stderr.write("usage: python -m app.analyse FILE LINES READING TRAINED\n")
        return 2
    path, lines, reading = Path(arguments[0]), Path(arguments[1]), msgspec.json.decode(arguments[2], type=Reading)
    trained = [Trained(Path(place), *more) for place, *more in json.loads(arguments[3])]
    try:
        progress = Progress(_print)
        analyse(unpacked(path, lines, reading, _print, progress), _print, progress, trained)
    except BrokenPipeError:
        return 1  # whoever started us is gone; there is nobody left to tell
    except Unpackable as error:
        _print({"error": error.message})
        return 2
    except OSError as error:
        _print({"error": f"The file cannot be read: {error.strerror or error}."})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
