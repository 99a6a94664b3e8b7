"""What is a CSV, and rows of Parquet as records: the columns are the keys."""

import base64
import csv
import importlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from app.conversations.containers.reading import FIELD_NAMES
from app.conversations.containers.streams import HEAD, Unpackable
from app.conversations.reader import BOM

DELIMITERS = ",;\t"
PAIRS = (("instruction", "output"), ("prompt", "completion"), ("prompt", "response"))
NEEDED = (("messages",), ("conversations",), *PAIRS)
ROWS = 64
COLUMN_NAME = re.compile(r"\w[\w .:/()-]{0,39}")
MAPPING = (
    "Say what they are: by `Read it differently` on its page, `?shape=prompt&fields=prompt=question,response=answer` "
    "behind the address, or --shape and --fields of `trainctl check`."
)
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
    """(names, delimiter) where the first line names the columns of a known shape, in large or small letters, or all
    that are `wanted`. Raises `Unpackable` where two columns have one name."""
    found = _first_row(head)
    if found is None:
        return None
    names, own = found[0], frozenset(wanted)
    if not own or not own <= set(names):
        names = [name.lower() if name.lower() in FIELD_NAMES else name for name in names]
        if not any(set(names) >= set(needed) for needed in NEEDED):
            return None
    if twice := next((name for place, name in enumerate(names) if name and name in names[:place]), None):
        reason = f"The CSV has two columns `{twice}`, of which one would be lost; rename or remove one of them."
        raise Unpackable(reason)
    return names, found[1]


def refuse_unknown_columns(head: bytes) -> None:
    """Raises `Unpackable` where this is clearly a CSV whose columns have other names."""
    found = _first_row(head)
    if found is None or len(found[0]) < 2 or not all(map(COLUMN_NAME.fullmatch, found[0])):
        return
    text = head.removeprefix(BOM).decode("utf-8", "replace")
    lines = list(islice(io.StringIO(text, newline=""), ROWS))
    try:
        rows = [row for row in csv.reader(lines, delimiter=found[1]) if row]
    except csv.Error:
        return
    if len(lines) == ROWS or len(head) == HEAD:
        del rows[-1:]  # it may be cut
    if len(rows) > 1 and all(len(row) == len(found[0]) and not row[0].startswith(("{", "[")) for row in rows):
        named = ", ".join(f"`{name}`" for name in found[0][:8])
        raise Unpackable(f"This is a CSV with the columns {named}, which are of no known shape. {MAPPING}")


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
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    yield json.dumps(_plain(row), ensure_ascii=False, default=str).encode("utf-8", "replace")
    except KeyError:
        reason = "A map in the Parquet file has one key twice, of which one would be lost."
        raise Unpackable(reason) from None
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise Unpackable(f"The Parquet file is damaged: {str(error).splitlines()[0]}.") from None


def _plain(value: Any) -> Any:
    """Without bytes and NaN: an image cell is {"bytes", "path"}, which becomes a data URI."""
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes):
            return f"data:image/png;base64,{base64.b64encode(value['bytes']).decode()}"
        return {str(key): _plain(one) for key, one in value.items()}  # the keys of a map are of any type
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # so a table writes that there is no number; JSON has no NaN
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
