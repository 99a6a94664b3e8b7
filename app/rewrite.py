"""`python -m app.rewrite LINES PLAN FOLDER ASKED`: makes the file of a new version in a process of its own.

PLAN has a JSON line [line, [[kind, field], ...]] for every line with a finding that is dealt with, in order; ASKED is
{"exclude": [kinds], "repair": [kinds]}. Two files appear in FOLDER, and one JSON line tells of them:

    {"path", "size", "sha256", "changes": {the same}, "counts": {"excluded": 3, "repaired": 12, "dropped": 1}}
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from app.conversations.rewriting import Asked, Found, Rewriting
from app.storage import PartWriter, Received


def read_plan(path: Path) -> Iterator[Found]:
    with path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line, type=Found)


def rewrite(lines: Path, plan: Path, folder: Path, asked: Asked) -> dict[str, Any]:
    """Raises `OSError`, and leaves nothing then."""
    with ExitStack() as stack:
        writer, changes = PartWriter(folder), PartWriter(folder)
        for one in (writer, changes):
            stack.callback(one.abandon)
        rewriting = Rewriting(asked, _into(writer), _into(changes))
        rewriting.run(lines, read_plan(plan))
        made, told = writer.finish(), changes.finish()
    return _described(made) | {"changes": _described(told), "counts": dict(rewriting.counts)}


def _into(writer: PartWriter) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        if writer.add(data):
            writer.flush()

    return write


def _described(made: Received) -> dict[str, Any]:
    return {"path": str(made.temporary), "size": made.size, "sha256": made.sha256}


def main(arguments: list[str]) -> int:
    if len(arguments) != 4:
        sys.stderr.write("usage: python -m app.rewrite LINES PLAN FOLDER ASKED\n")
        return 2
    lines, plan, folder = map(Path, arguments[:3])
    sys.stdout.write(json.dumps(rewrite(lines, plan, folder, msgspec.json.decode(arguments[3], type=Asked))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
