"""Everything that can be seen in a dataset file: errors, lints, totals. What upload and `trainctl check` share.

line_starts -> parts -> `part.Looker`, here or in processes of its own -> findings, columns, totals of each part
                     -> lints that compare records, on the columns of all parts -> all findings by line
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

import msgspec

from app.conversations.findings import Finding
from app.conversations.lints import near_duplicate, whole
from app.conversations.lints.columns import Columns
from app.conversations.lints.comparison import Comparison
from app.conversations.lints.kinds import FRAME_SAMPLE, severity_of
from app.conversations.lints.language_of import LANGUAGES
from app.conversations.part import Looker, Options, Part, Seldom, Task, read_frame, write_frame
from app.conversations.reader import line_starts, valid_conversations
from app.conversations.statistics import Statistics

PART_SIZE = 2 * 2**20
# Below this size a second process takes longer to start than it saves.
WORTH_PROCESSES = 8 * 2**20
MOST_PROCESSES = 4
# Parts given to a process ahead, so that it never waits.
AHEAD = 2

OnPart = Callable[[float, int, int], None]


class Inspection:
    """The totals of a file; `findings()` gives each finding once, in the order of the lines. Close it."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self._options = path, options
        self.num_records = self.num_valid = self._num_lines = 0
        self.statistics = Statistics()
        self._open = ExitStack()
        self._columns = self._open.enter_context(Columns())
        self._found = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest, in `close`
        self._open.callback(self._found.close)
        self._has_mark, self._blanks, self._windows = False, Seldom(), Seldom()

    def take(self, part: Part) -> None:
        """The next part, in the order of the file."""
        before = self._num_lines
        self._has_mark |= part.has_mark
        for mine, theirs in ((self._blanks, part.blanks), (self._windows, part.windows)):
            if theirs.number:
                mine.line = mine.line or before + theirs.line
                mine.number += theirs.number
        for finding in part.findings:
            moved = msgspec.structs.replace(finding, line=finding.line + before)
            self._found.write(msgspec.json.encode(moved) + b"\n")
        self._columns.append(part.columns, before)
        self.statistics.merge(part.statistics)
        self.num_records += part.num_records
        self.num_valid += part.num_valid
        self._num_lines += part.num_lines

    def findings(self) -> Iterator[Finding]:
        comparison = Comparison(self.path, self._columns, self._options.frame or frozenset())
        try:
            yield from whole.merged(iter(self._of_the_file()), self._of_lines(), whole.find(comparison))
        finally:
            comparison.close()

    def _of_lines(self) -> Iterator[Finding]:
        self._found.seek(0)
        for line in self._found:
            yield msgspec.json.decode(line, type=Finding)

    def _of_the_file(self) -> list[Finding]:
        """Said once, at the first line of that sort."""
        seen = [("byte_order_mark", 1, "The file begins with a byte order mark.")] if self._has_mark else []
        if self._windows.number:
            seen.append(("windows_line_ends", self._windows.line, f"{self._windows.number:,} lines end as on Windows."))
        if self._blanks.number:
            seen.append(("blank_line", self._blanks.line, f"{self._blanks.number:,} lines are blank."))
        made = [Finding(kind, severity_of(kind), line, "", message, "") for kind, line, message in seen]
        return sorted(made, key=lambda finding: finding.line)

    def totals(self) -> dict[str, Any]:
        """The statistics as the API shows them."""
        counts = Counter(self._columns["language"])
        languages = {LANGUAGES[place]: number for place, number in counts.most_common() if place}
        return {"records": self.num_records, **self.statistics.as_json(), "languages": languages}

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> "Inspection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def inspect(path: Path, options: Options, on_part: OnPart = lambda share, records, valid: None) -> Inspection:
    """Read the file once. `on_part` gets the share that is read, and the records and valid ones so far.

    Raises `OSError`, and `ModelIncomplete` where the folder of `options` lacks a file.
    """
    if options.frame is not None:
        sample = islice(valid_conversations(path), FRAME_SAMPLE)
        texts = (tuple(turn.text for turn in conversation.turns) for _, conversation in sample)
        options = msgspec.structs.replace(options, frame=near_duplicate.frame_of(texts))
    seen = Inspection(path, options)
    try:
        size = path.stat().st_size
        edges = [*line_starts(path, PART_SIZE), size]
        tasks = [Task(str(path), start, end) for start, end in pairwise(edges)]
        for task, part in zip(tasks, _parts(tasks, options, size), strict=True):
            seen.take(part)
            on_part(task.end / size, seen.num_records, seen.num_valid)
    except BaseException:
        seen.close()
        raise
    return seen


def _parts(tasks: list[Task], options: Options, size: int) -> Iterator[Part]:
    num_processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)), len(tasks))
    if size < WORTH_PROCESSES or num_processes < 2:
        return map(Looker(options).look, tasks)
    return _by_processes(tasks, options, num_processes)


def _by_processes(tasks: list[Task], options: Options, num_processes: int) -> Iterator[Part]:
    """Each process has the next parts in turn, so what comes back is in the order of the file."""
    if options.model_dir:
        Looker(options)  # raises here what would end the others
    command = [sys.executable, "-m", "app.conversations.part"]
    with ExitStack() as stack:
        children = [_start(stack, command) for _ in range(num_processes)]
        for child in children:
            write_frame(_pipe(child.stdin), options)
        waiting: deque[subprocess.Popen[bytes]] = deque()
        for number, task in enumerate(tasks):
            if len(waiting) >= AHEAD * num_processes:
                yield _next(waiting)
            child = children[number % num_processes]
            write_frame(_pipe(child.stdin), task)
            waiting.append(child)
        while waiting:
            yield _next(waiting)


def _start(stack: ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.enter_context(child)
    stack.callback(child.kill)  # runs first: what is still at work when we leave is not wanted any more
    return child


def _next(waiting: deque[subprocess.Popen[bytes]]) -> Part:
    child = waiting.popleft()
    frame = read_frame(_pipe(child.stdout))
    if frame is None:
        raise ChildProcessError(f"A process that reads parts of the file ended with code {child.wait()}.")
    return msgspec.msgpack.decode(frame, type=Part)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
