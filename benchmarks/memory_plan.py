"""Does a job fit? A dry-run of the real 8B geometry through the trainer's own code, beside the formula of the planner.

python benchmarks/memory_plan.py --json FILE
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.estimate import Demand, memory
from app.geometry import Geometry, read_geometry
from benchmarks.dry_run import GEOMETRY_8B, Case, peak_of_step

GIB = 2**30
# What a mean example of the leo-like data and eight of them a step come to; then longer and longer rows.
CASES: tuple[tuple[str, Case, float | None], ...] = (
    ("2,800 tokens a row", Case((350,) * 8), 8.5),
    ("8,192 tokens a row", Case((1024,) * 8), 11.5),
    ("2 x 2,862 tokens, where the original ran out", Case((2862, 2862)), 10.0),
    ("one example of 512 tokens", Case((512,)), None),
    ("one example of 16,384 tokens", Case((16_384,)), None),
    ("2,800 tokens, 18 layers not recomputed", Case((350,) * 8, free_layers=18), None),
    ("2,800 tokens, no layer recomputed", Case((350,) * 8, free_layers=36), None),
    ("2,800 tokens, bf16 base", Case((350,) * 8, use_qlora=False), None),
    ("8,192 tokens, rank 64", Case((1024,) * 8, rank=64), None),
    ("8,192 tokens, no dropout", Case((1024,) * 8, dropout=0.0), None),
)


def measure(config: dict[str, Any], cases: tuple[tuple[str, Case, float | None], ...]) -> Iterator[dict[str, Any]]:
    """A row for each case, in GiB, and one for the formula at its worst."""
    geometry = read_geometry(config | {"model_type": "qwen3_vl"})
    assert geometry is not None
    worst = 0.0
    for name, case, mark in cases:
        peak, planned = peak_of_step(config, case), formula(geometry, case)
        difference = 100 * (planned / peak - 1)
        worst = max(worst, abs(difference))
        row = {"name": name, "value": round(peak / GIB, 2), "unit": "GiB", "mark": mark, "better": "lower"}
        yield row | {"formula": round(planned / GIB, 2), "difference": round(difference, 1)}
    name = "formula against the dry-run, worst case"
    yield {"name": name, "value": round(worst, 1), "unit": "%", "mark": 5.0, "better": "lower"}


def formula(geometry: Geometry, case: Case) -> int:
    demand = Demand(
        use_qlora=case.use_qlora,
        rank=case.rank,
        has_dropout=case.dropout > 0,
        row_tokens=case.row_tokens,
        free_layers=case.free_layers,
        target_share=case.target_share,
    )
    return memory(geometry, demand).total


def line_of(row: dict[str, Any]) -> str:
    mark = "" if row["mark"] is None else f"<= {row['mark']:g}"
    beside = f"{row['formula']:9.2f} {row['difference']:+6.1f} %" if "formula" in row else ""
    return f"{row['name']:48}{row['value']:9.2f} {row['unit']:4}{mark:>9}{beside:>20}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the rows")
    given = parser.parse_args(arguments)
    print(f"{'Qwen3-VL-8B, NF4, 8-bit Adam, dry-run':48}{'peak':>9}     {'mark':>9}{'formula':>20}")
    rows = []
    for row in measure(GEOMETRY_8B, CASES):
        print(line_of(row), flush=True)
        rows.append(row)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
