"""What is a CSV, and rows of Parquet as records: the columns are the keys."""

import base64
import csv
import importlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from app.conversations.containers.streams import Unpackable
from app.conversations.reader import BOM

DELIMITERS = ",;\t"
PAIRS = (("instruction", "output"), ("prompt", "completion"), ("prompt", "response"))
NEEDED = (("messages",), ("conversations",), *PAIRS)
ROWS = 64
FIRST_LINE = re.compile(rb"[^\r\n]*")


def _first_row(head: bytes) -> tuple[list[str], str] | None:
    """(names, delimiter) of the first line, None where it can be no header."""
    first = FIRST_LINE.match(head.removeprefix(BOM))
    line = first[0].decode("utf-8", "replace").strip() if first else ""
    if not line or line.startswith(("{", "[")):
        return None
    delimiter = max(DELIMITERS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return None
    return [name.strip() for name in names], delimiter


def csv_columns(head: bytes, wanted: Iterable[str] = ()) -> tuple[list[str], str] | None:
    """(names, delimiter) where the first line names the columns of a known shape, or all that are `wanted`."""
    found = _first_row(head)
    if found is None:
        return None
    names, own = set(found[0]), tuple(wanted)
    is_known = any(names >= set(needed) for needed in NEEDED) or (bool(own) and names >= set(own))
    return found if is_known else None


def parquet_rows(path: Path) -> Iterator[bytes]:
    """Raises `Unpackable` where the library for it is not installed."""
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        advice = "pip install training-control-center[parquet], or export it as JSONL."
        raise Unpackable(f"This is a Parquet file, for which pyarrow is not installed: {advice}") from None
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    yield json.dumps(_plain(row), ensure_ascii=False, default=str).encode("utf-8", "replace")
    except (arrow.ArrowException, OSError) as error:
        raise Unpackable(f"The Parquet file is damaged: {str(error).splitlines()[0]}.") from None


def _plain(value: Any) -> Any:
    """Without bytes: an image cell is {"bytes", "path"}, which becomes a data URI."""
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes):
            return f"data:image/png;base64,{base64.b64encode(value['bytes']).decode()}"
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
