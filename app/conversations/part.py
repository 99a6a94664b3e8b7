"""`python -m app.conversations.part`: looks at parts of a file for a process that puts them together.

It reads frames from standard input, first `Options`, then one `Task` after the other, and writes a `Part` for each;
a frame is four bytes of length and that much msgpack. It ends when its input does, so it outlives nobody.
"""

import gc
import sys
from pathlib import Path
from typing import IO

import msgspec

from app.conversations.findings import Finding, error_finding
from app.conversations.lints import duplicate_key, too_long
from app.conversations.lints.columns import Facts
from app.conversations.lints.local import LINTS
from app.conversations.lints.record import Record
from app.conversations.normalize import with_system_prompt
from app.conversations.reader import BOM, RawLine, conversation_of, parse_line, raw_lines
from app.conversations.records import Line, Rejected
from app.conversations.render import Renderer
from app.conversations.statistics import Statistics
from app.conversations.truncate import Truncation

TOKENIZED_AT_ONCE = 64
LENGTH_BYTES = 4


class Options(msgspec.Struct, frozen=True):
    """`model_dir` has the tokenizer that lengths go by, else characters are counted; `frame` is None where near
    duplicates are not looked for."""

    max_length: int = 2048
    truncation: Truncation = "drop"
    model_dir: str | None = None
    system_prompt: str = ""
    frame: frozenset[str] | None = frozenset()


class Task(msgspec.Struct, frozen=True):
    path: str
    start: int
    end: int


class Seldom(msgspec.Struct):
    """Something a file has here and there: the first line, and how many."""

    line: int = 0
    number: int = 0

    def count(self, line: int) -> None:
        self.line = self.line or line
        self.number += 1


class Part(msgspec.Struct):
    """What was seen between two offsets; lines are counted from the start of the part."""

    num_lines: int = 0
    num_records: int = 0
    num_valid: int = 0
    findings: list[Finding] = msgspec.field(default_factory=list)
    columns: dict[str, bytes] = msgspec.field(default_factory=dict)
    statistics: Statistics = msgspec.field(default_factory=Statistics)
    has_mark: bool = False
    blanks: Seldom = msgspec.field(default_factory=Seldom)
    windows: Seldom = msgspec.field(default_factory=Seldom)


class Looker:
    """Looks at parts with one set of options."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._renderer = Renderer.load(Path(options.model_dir)) if options.model_dir else None

    def look(self, task: Task) -> Part:
        part, facts = Part(), Facts(self._options.frame)
        waiting: list[Record] = []
        with open(task.path, "rb") as file:
            for raw_line in raw_lines(file, task.start, task.end):
                part.num_lines = raw_line.number
                if line := _line(raw_line, part):
                    waiting += self._take(line, raw_line.start, part, facts)
                if len(waiting) >= TOKENIZED_AT_ONCE:
                    self._measure(waiting, part)
        self._measure(waiting, part)
        part.findings.sort(key=lambda finding: finding.line)
        part.columns = facts.as_bytes()
        return part

    def _take(self, line: Line, start: int, part: Part, facts: Facts) -> list[Record]:
        """The record where it is to be measured in tokens."""
        part.num_records += 1
        found = conversation_of(line)
        if isinstance(found, Rejected):
            part.findings.append(error_finding(line, found))
            return []
        record = Record.of(line, found)
        part.num_valid += 1
        part.statistics.add(line, found, record.texts)
        part.findings += duplicate_key.find(line.number, line.raw, line.value)
        for lint in LINTS:
            part.findings += lint(record)
        facts.add(record, start)
        if self._renderer:
            return [record]
        part.findings += too_long.find_by_characters(record, self._options.max_length)
        return []

    def _measure(self, waiting: list[Record], part: Part) -> None:
        """Tokens as the trainer counts them, with the job's system prompt in front."""
        if not self._renderer or not waiting:
            return
        prompt = self._options.system_prompt
        conversations = [with_system_prompt(record.conversation, prompt)[0] for record in waiting]
        for record, encoded in zip(waiting, self._renderer.encode_many(conversations), strict=True):
            part.statistics.tokens += len(encoded.ids)
            part.statistics.targets += encoded.num_targets
            limits = self._options.max_length, self._options.truncation
            part.findings += too_long.find_by_tokens(record, encoded, *limits)
        waiting.clear()


def _line(found: RawLine, part: Part) -> Line | None:
    """The line's value, None for a blank one; what is odd about its ends is counted."""
    part.has_mark = part.has_mark or (found.start == 0 and found.raw.startswith(BOM))
    if found.raw.endswith(b"\r\n"):
        part.windows.count(found.number)
    line = parse_line(found)
    if line is None:
        part.blanks.count(found.number)
    return line


def write_frame(file: IO[bytes], message: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(message)
    file.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    file.flush()


def read_frame(file: IO[bytes]) -> bytes | None:
    """None where the other side is gone."""
    head = file.read(LENGTH_BYTES)
    data = file.read(int.from_bytes(head, "big"))
    return data if len(head) == LENGTH_BYTES and data else None


def main() -> None:
    data, results = sys.stdin.buffer, sys.stdout.buffer
    first = read_frame(data)
    if first is None:
        return
    looker = Looker(msgspec.msgpack.decode(first, type=Options))
    gc.freeze()
    gc.disable()  # what a record makes goes with it; what is left over goes after each part
    while frame := read_frame(data):
        try:
            write_frame(results, looker.look(msgspec.msgpack.decode(frame, type=Task)))
            gc.collect()
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
