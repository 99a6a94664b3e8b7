"""Rows of Parquet: what its types become in JSON."""

import base64
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from app.conversations.containers.streams import Unpackable
from app.conversations.containers.unpack import unpack
from app.conversations.normalize import normalize
from app.conversations.records import Conversation

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
QUESTION = {"prompt": "q", "response": "a"}


def read(folder: Path, rows: list[dict[str, Any]], **types: Any) -> list[dict[str, Any]]:
    """The rows as they come out of the file; `types` are those of columns that Arrow would not guess."""
    columns = {name: arrow.array([row[name] for row in rows], types.get(name)) for name in rows[0]}
    parquet.write_table(arrow.table(columns), folder / "data")
    found = unpack(folder / "data", folder / "lines")
    assert found and found.container == "parquet"
    return [json.loads(line, parse_constant=pytest.fail) for line in (folder / "lines").read_bytes().splitlines()]


def test_image_cells_are_images(tmp_path: Path, data_uri: Callable[..., str]) -> None:
    picture = base64.b64decode(data_uri(40, 30).partition(",")[2])
    rows = [{"prompt": "<image>what?", "response": "red", "images": [{"bytes": picture, "path": "a.png"}]}]
    found = normalize(read(tmp_path, rows)[0])
    assert isinstance(found, Conversation)
    assert (found.images[0].width, found.answer) == (40, "red")


def test_a_column_of_numbers_with_gaps_costs_no_row(tmp_path: Path) -> None:
    rows = [{**QUESTION, "score": score} for score in (float("nan"), 1.5, float("inf"))]
    assert [row["score"] for row in read(tmp_path, rows)] == [None, 1.5, None]


def test_a_map_is_an_object_whatever_its_keys_are(tmp_path: Path) -> None:
    full: dict[str, Any] = {"response": [("alpha", [1.5, float("nan")])], "days": [(date(2025, 1, 2), 3)]}
    rows = [{**QUESTION, **full}, {**QUESTION, "response": [], "days": []}]
    kinds = arrow.map_(arrow.string(), arrow.list_(arrow.float64())), arrow.map_(arrow.date32(), arrow.int64())
    assert read(tmp_path, rows, response=kinds[0], days=kinds[1]) == [
        {**QUESTION, "response": {"alpha": [1.5, None]}, "days": {"2025-01-02": 3}},
        {**QUESTION, "response": {}, "days": {}},
    ]


def test_a_map_with_one_key_twice_is_refused_in_words(tmp_path: Path) -> None:
    rows = [{**QUESTION, "response": [("a", 1), ("a", 2)]}]
    with pytest.raises(Unpackable, match="has one key twice"):
        read(tmp_path, rows, response=arrow.map_(arrow.string(), arrow.int64()))
