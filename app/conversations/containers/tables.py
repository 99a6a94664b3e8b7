"""Rows of CSV and Parquet as records: the columns are the keys."""

import base64
import csv
import importlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from app.conversations.containers.streams import Unpackable
from app.conversations.reader import BOM, LINE_LIMIT

DELIMITERS = ",;\t"
# Columns whose cells are JSON: no cell of a table holds a list otherwise.
JSON_COLUMNS = ("messages", "conversations", "history", "images", "tools")
PAIRS = (("instruction", "output"), ("prompt", "completion"), ("prompt", "response"))
NEEDED = (("messages",), ("conversations",), *PAIRS)
ROWS = 64
FIRST_LINE = re.compile(rb"[^\r\n]*")


def csv_columns(head: bytes) -> tuple[list[str], str] | None:
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


def is_csv(head: bytes, wanted: Iterable[str] = ()) -> bool:
    """Whether the first line names the columns of a known shape, or all that are `wanted`."""
    found = csv_columns(head)
    if found is None:
        return False
    names = set(found[0])
    own = tuple(wanted)
    return any(names >= set(needed) for needed in NEEDED) or (bool(own) and names >= set(own))


def csv_rows(stream: IO[bytes], head: bytes) -> Iterator[bytes]:
    found = csv_columns(head)
    assert found is not None, "looked at before"
    names, delimiter = found
    csv.field_size_limit(LINE_LIMIT)
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        next(rows)
        for row in rows:
            if row:
                yield _csv_record(dict(zip(names, row, strict=False)), len(row) - len(names))
    except csv.Error as error:
        raise Unpackable(f"The CSV is broken at line {rows.line_num}: {error}.") from None
    except UnicodeDecodeError as error:
        raise Unpackable(f"The CSV is not UTF-8 after line {rows.line_num}: {error.reason}.") from None
    finally:
        text.detach()  # the stream is closed by whoever opened it


def _csv_record(row: dict[str, Any], num_more: int) -> bytes:
    if num_more:
        return json.dumps({"cells": list(row.values())}, ensure_ascii=False).encode()  # no shape: a finding says so
    for name in JSON_COLUMNS:
        if name in row:
            try:
                row[name] = msgspec.json.decode(row[name]) if row[name].strip() else None
            except msgspec.DecodeError:
                continue  # stays a text, which the shape then refuses by its name
    return json.dumps(row, ensure_ascii=False).encode()


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
