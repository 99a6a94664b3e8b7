"""What every benchmark writes: rows as a table on the screen and as JSON in a file.

`ratio` is value / peer. A mark is held against the ratio where a row has one, else against the value; `better` says
which side of the mark is the good one. A row whose value is None could not be measured, and its name says why.
"""

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NotRequired, TypedDict


class Row(TypedDict):
    name: str
    value: float | None
    unit: str
    mark: float | None
    better: Literal["higher", "lower"]
    peer: NotRequired[float]
    ratio: NotRequired[float]


def row(
    name: str,
    value: float | None,
    unit: str,
    better: Literal["higher", "lower"] = "higher",
    mark: float | None = None,
    peer: float | None = None,
) -> Row:
    made: Row = {"name": name, "value": _short(value), "unit": unit, "mark": mark, "better": better}
    if peer and value is not None:
        made |= {"peer": _short(peer) or 0.0, "ratio": _short(value / peer) or 0.0}
    return made


def is_met(one: Row) -> bool | None:
    """None where there is no mark, or nothing was measured."""
    found, mark = one.get("ratio", one["value"]), one["mark"]
    if found is None or mark is None:
        return None
    return found >= mark if one["better"] == "higher" else found <= mark


def machine() -> Row:
    """The first row of every file: what the others were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers"))
    return row(f"machine: {_processor()}, {libraries}", len(os.sched_getaffinity(0)), "cores")


def arguments(description: str | None, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    parser = parser or argparse.ArgumentParser()
    parser.description = (description or "").splitlines()[0]
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    parser.add_argument("--shrink", action="store_true", help="seconds instead of minutes; the numbers mean nothing")
    return parser.parse_args()


def report(rows: list[Row], path: Path | None) -> None:
    print()
    for one in rows:
        peer = f"peer {one['peer']:>12,.4g}  ratio {one['ratio']:>8.3f}" if "ratio" in one else ""
        value = "-" if one["value"] is None else f"{one['value']:,.4g}"
        met = is_met(one)
        mark = "" if met is None else f"  mark {one['mark']:g}: {'met' if met else 'MISSED'}"
        print(f"{one['name'][:86]:86} {value:>12} {one['unit']:12} {peer}{mark}".rstrip())
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
