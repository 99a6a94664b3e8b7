"""The lints that compare the records of a file."""

import heapq
from collections.abc import Callable, Iterator

import msgspec

from app.conversations.findings import Finding
from app.conversations.lints import (
    broken_json,
    contradiction,
    dominant_answer,
    exact_duplicate,
    language_outlier,
    length_outlier,
    near_pairs,
    system_prompt_differs,
)
from app.conversations.lints.comparison import Comparison, Judge

LINTS: dict[str, Callable[[Comparison], Judge]] = {
    "exact_duplicate": exact_duplicate.judge,
    "contradiction": contradiction.judge,
    "near_duplicate": near_pairs.judge,
    "broken_json": broken_json.judge,
    "language_outlier": language_outlier.judge,
    "length_outlier": length_outlier.judge,
    "system_prompt_differs": system_prompt_differs.judge,
    "dominant_answer": dominant_answer.judge,
}


def find(files: Comparison) -> Iterator[Finding]:
    """Every finding, in the order of the lines."""
    judges = [(kind, lint(files)) for kind, lint in LINTS.items()]
    for row in range(files.num_rows):
        for kind, judge in judges:
            if (seen := judge(row)) is not None:
                record = files.record(row)
                turn = record.answers[-1][0] if seen.turn is None else seen.turn
                finding = record.finding(kind, turn, seen.message)
                if seen.other is None:
                    yield finding
                else:
                    yield msgspec.structs.replace(finding, other_line=files.line(seen.other))


def merged(*findings: Iterator[Finding]) -> Iterator[Finding]:
    """Findings of several sources, each in the order of the lines, in that order."""
    return heapq.merge(*findings, key=lambda finding: finding.line)
