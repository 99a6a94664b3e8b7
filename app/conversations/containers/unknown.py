"""Files that are no dataset in any container: said in one sentence, where each line would be a finding of its own."""

import json
import re

from app.conversations.containers.streams import HEAD, Unpackable
from app.conversations.containers.window import is_cut
from app.conversations.reader import BOM

# What a file that is no text begins with, and what it is then.
KNOWN = {
    b"%PDF": "a PDF",
    b"\x1f\x8b": "gzip data inside another layer",
    b"\x28\xb5\x2f\xfd": "zstd data inside another layer",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "lz4 data",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"SQLite format 3": "a database",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"\x93NUMPY": "a NumPy file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
# Of less than a short line each line may as well be named.
FEW = 64
# An object that has not ended after so much of it without an error is one.
ENOUGH = HEAD // 2
ADVICE = "Send JSONL, a JSON array, CSV or Parquet, as UTF-8; gzip, zstd, zip or tar around it are unpacked."
FIRST_BRACE = re.compile(rb"\{[ \t]*\r?\n")
OLD_MAC = re.compile(rb"\}\r\s*\{")


def refuse(head: bytes) -> None:
    """Raises `Unpackable` where these first bytes are of no file with lines of JSON."""
    text = head.removeprefix(BOM).lstrip()
    if what := next((what for magic, what in KNOWN.items() if head.startswith(magic)), None):
        raise Unpackable(f"The file is {what}, which is not read. {ADVICE}")
    if text.startswith((b"{", b"[")):
        if b"\n" not in head and OLD_MAC.search(head):
            raise Unpackable("The lines end with a carriage return alone; save the file with line feeds (LF).")
        if FIRST_BRACE.match(text):
            _refuse_one_object(text)
    elif b"\0" in head and len(head) > FEW:
        raise Unpackable(f"The file is no text. {ADVICE}")


def _refuse_one_object(head: bytes) -> None:
    """A brace stands alone in the first line; where an object follows, it stands on several."""
    try:
        json.JSONDecoder(strict=False).raw_decode(head.decode("utf-8", "ignore"))
    except json.JSONDecodeError as error:
        if not (is_cut(error) and len(head) > ENOUGH):
            return
    except RecursionError:
        return
    raise Unpackable(
        "The file is one JSON object on several lines, no JSONL: write each record on one line, or as a list in [ ]."
    )
