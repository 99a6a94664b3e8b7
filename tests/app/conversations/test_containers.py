"""The same records in every container; damaged, malicious and odd ones."""

import base64
import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.conversations.containers import streams
from app.conversations.containers.reading import Reading
from app.conversations.containers.streams import Unpackable, zstd
from app.conversations.containers.unpack import unpack
from app.conversations.normalize import normalize
from app.conversations.reader import conversation_of, read_conversations, read_lines, valid_conversations
from app.conversations.records import Conversation, Rejected
from tests.factories import jsonl, record

RECORDS = [record("Zürich?", "1\n2"), record("p", {"a": [1, None]})]
LINES = jsonl(*RECORDS)
WANTED = [normalize(one) for one in RECORDS]
ARRAYS = [
    json.dumps(RECORDS).encode(),
    json.dumps(RECORDS, indent=2, ensure_ascii=False).replace("\n", "\r\n").encode(),
    b"\xef\xbb\xbf \n[" + LINES.strip().replace(b"\n", b"\n,\n") + b"\n]\n",
]


Found = tuple[str | None, list[Conversation | Rejected]]


def unpacked(folder: Path, data: bytes, reading: Reading | None = None) -> Found:
    path, target = folder / "data", folder / "lines.jsonl"
    path.write_bytes(data)
    found = unpack(path, target, reading or Reading())
    lines = target if found else path
    return found.container if found else None, [one for _, one in read_conversations(lines)]


def csv_of(*rows: dict[str, Any], delimiter: str = ",") -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def zip_of(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return file.getvalue()


def tar_of(**files: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "container"),
    [
        (LINES, None),
        *((array, "json array") for array in ARRAYS),
        (gzip.compress(LINES), "gzip"),
        (zstd.compress(LINES), "zstd"),
        (gzip.compress(ARRAYS[1]), "gzip, json array"),
        (zip_of(a_dot_jsonl=LINES, notes_dot_md=b"hello"), "zip"),
        (zip_of(metadata_dot_json=b"{}", data__a_dot_jsonl=LINES), "zip"),
        (tar_of(a_dot_jsonl=LINES)[:1536], "tar"),
        (zip_of(a_dot_json_dot_gz=gzip.compress(ARRAYS[0])), "zip, gzip, json array"),
        (tar_of(data__a_dot_jsonl=LINES), "tar"),
        (zstd.compress(tar_of(a_dot_json=ARRAYS[0])), "zstd, tar, json array"),
    ],
)
def test_every_container_holds_the_same_records(tmp_path: Path, data: bytes, container: str | None) -> None:
    assert unpacked(tmp_path, data) == (container, WANTED)


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    rows = [{"prompt": 'a "b"\n,c', "completion": "d"}, {"prompt": "2;3", "completion": "5"}]
    for delimiter in ",;\t":
        container, found = unpacked(tmp_path, csv_of(*rows, delimiter=delimiter))
        assert (container, found) == ("csv", [normalize(row) for row in rows])


def test_cells_with_turns_are_json(tmp_path: Path) -> None:
    data = csv_of(*({"id": n, "messages": json.dumps(one["messages"])} for n, one in enumerate(RECORDS)))
    assert unpacked(tmp_path, data) == ("csv", WANTED)


def zip_bytes(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_images_beside_the_records_are_found_by_their_paths(tmp_path: Path, data_uri: Callable[..., str]) -> None:
    first, second = (zip_bytes(data_uri(width, 30)) for width in (40, 50))
    turns = [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "a"}]
    lines = jsonl(*({"conversations": turns, "images": one} for one in (["img/1.png", "./2.png"], ["x", "y"])))
    data = zip_of(set__data_dot_jsonl=lines, set__img__1_dot_png=first, **{"2_dot_png": second})
    _, (good, bad) = unpacked(tmp_path, data)
    assert isinstance(good, Conversation) and [one.width for one in good.images] == [40, 50]
    assert isinstance(bad, Rejected) and (bad.kind, bad.field) == ("image_missing", "images[0]")


def test_of_two_files_of_one_name_the_last_counts_and_no_other_is_touched(
    tmp_path: Path, data_uri: Callable[..., str]
) -> None:
    records = jsonl(record("<image>", "a") | {"images": ["a.png"]}, record("<image>", "b") | {"images": ["b.png"]})
    members = [
        ("d.jsonl", records),
        ("a.png", zip_bytes(data_uri(40))),
        ("a.png", zip_bytes(data_uri(50))),
        ("b.png", zip_bytes(data_uri(60))),
    ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = unpacked(tmp_path, packed.getvalue())
    widths = [one.images[0].width for one in found[1] if isinstance(one, Conversation)]
    assert widths == [50, 60]


@pytest.mark.parametrize(
    ("name", "kind"), [("../img/a.png", None), ("../../img/a.png", "image_missing"), ("/img/a.png", "image_missing")]
)
def test_a_path_may_go_up_inside_the_archive(
    tmp_path: Path, data_uri: Callable[..., str], name: str, kind: str | None
) -> None:
    lines = jsonl({"prompt": "<image>?", "response": "a", "image": name})
    _, (found,) = unpacked(tmp_path, zip_of(data__d_dot_jsonl=lines, img__a_dot_png=zip_bytes(data_uri(40, 30))))
    assert (found.kind if isinstance(found, Rejected) else None) == kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(LINES)[:-9], "gzip data is damaged or was cut"),
        (gzip.compress(LINES * 50)[:40], "gzip data is damaged or was cut"),
        (zstd.compress(LINES)[:-3], "zstd data is damaged or was cut"),
        (zip_of(a_dot_jsonl=LINES)[:-30], "zip file is damaged"),
        (zip_of(a_dot_txt=LINES), "must hold one data file .* it holds none"),
        (zip_of(a_dot_jsonl=LINES, b_dot_csv=LINES, c_dot_json=LINES), r"it holds a\.jsonl, b\.csv, c\.json"),
        (zip_of(a_dot_json=LINES, b_dot_json=LINES), r"it holds a\.json, b\.json"),
        (zip_of(**{"../a_dot_jsonl": LINES}), "leads out of it"),
        (tar_of(**{"/a_dot_jsonl": LINES}), "leads out of it"),
        *(
            (tar_of(a_dot_jsonl=LINES, b_dot_png=LINES)[:size], "tar file is damaged")
            for size in (700, 1024, 1100, 2048)
        ),
        (gzip.compress(zip_of(a_dot_jsonl=LINES)), "send it unpacked"),
        (b"PAR1nonsensePAR1", "Parquet file is damaged"),
    ],
)
def test_what_cannot_be_unpacked_is_said_in_words_and_leaves_nothing(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(Unpackable, match=words):
        unpacked(tmp_path, data)
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


def test_links_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        info = tarfile.TarInfo("a.jsonl")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(info)
    with pytest.raises(Unpackable, match="link or a device"):
        unpacked(tmp_path, file.getvalue())
    link = zipfile.ZipInfo("a.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(Unpackable, match="holds a link"):
        unpacked(tmp_path, (tmp_path / "z").read_bytes())


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda data: zip_of(a_dot_jsonl=data)])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(streams, "ALWAYS_FINE", 10_000)
    monkeypatch.setattr(streams, "MOST_TIMES", 2)
    with pytest.raises(Unpackable, match="unpacks to more than"):
        unpacked(tmp_path, pack(LINES * 1000))


def test_an_image_that_many_records_name_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_uri: Callable[..., str]
) -> None:
    monkeypatch.setattr(streams, "ALWAYS_FINE", 10_000)
    monkeypatch.setattr(streams, "MOST_TIMES", 2)
    lines = jsonl(*[{"prompt": "<image>?", "response": "a", "image": "a.png"}] * 100)
    data = zip_of(a_dot_jsonl=lines, a_dot_png=zip_bytes(data_uri(40, 30)) + bytes(1000))
    with pytest.raises(Unpackable, match="with their images, take more than 10,000 bytes"):
        unpacked(tmp_path, data)
    assert not (tmp_path / "lines.jsonl").exists()


def test_a_record_with_more_images_than_a_line_holds_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_uri: Callable[..., str]
) -> None:
    monkeypatch.setattr("app.conversations.containers.unpack.LINE_LIMIT", 5000)
    lines = jsonl({"prompt": "?", "response": "a", "images": ["a.png"] * 100}, RECORDS[0])
    unpacked(tmp_path, zip_of(a_dot_jsonl=lines, a_dot_png=zip_bytes(data_uri(40, 30)) + bytes(1000)))
    lengths = [len(line) for line in (tmp_path / "lines.jsonl").read_bytes().splitlines()]
    assert 5000 < lengths[0] < 10_000
    bad, good = map(conversation_of, read_lines(tmp_path / "lines.jsonl", limit=5000))
    assert isinstance(bad, Rejected) and "with the images in it, is longer than 5,000 bytes" in bad.message
    assert good == WANTED[0]


def test_columns_under_other_names_and_a_shape_that_was_meant(tmp_path: Path) -> None:
    reading = Reading("prompt", {"prompt": "question", "response": "answer"})
    data = csv_of({"question": "1+1?", "answer": "2, yes"}, {"question": "2+2?", "answer": "4, yes"})
    container, found = unpacked(tmp_path, data, reading)
    assert (container, found[0]) == ("csv", normalize({"prompt": "1+1?", "response": "2, yes"}))
    both = jsonl({"messages": "a note", "question": "q", "answer": 3})
    assert unpacked(tmp_path, both, reading) == ("jsonl", [normalize({"prompt": "q", "response": 3})])


def test_a_byte_order_mark_costs_no_record(tmp_path: Path, data_uri: Callable[..., str]) -> None:
    mark, reading = b"\xef\xbb\xbf", Reading("prompt", {"prompt": "question", "response": "answer"})
    _, (found,) = unpacked(tmp_path, mark + jsonl({"question": "q", "answer": "a"}), reading)
    assert found == normalize({"prompt": "q", "response": "a"})
    lines = mark + jsonl({"prompt": "<image>?", "response": "a", "image": "a.png"})
    _, (shown,) = unpacked(tmp_path, zip_of(a_dot_jsonl=lines, a_dot_png=zip_bytes(data_uri(40, 30))))
    assert isinstance(shown, Conversation) and len(shown.images) == 1


@pytest.mark.parametrize("reading", [Reading("sharegpt"), Reading(None, {"question": "prompt"})])
def test_a_reading_that_means_nothing_is_named(reading: Reading) -> None:
    assert "is none of" in (reading.problem() or ("", ""))[1]


def test_a_list_on_the_first_of_several_lines_makes_no_array(tmp_path: Path) -> None:
    container, found = unpacked(tmp_path, b"[1, 2]\n" + LINES)
    assert (container, [type(one) for one in found]) == (None, [Rejected, Conversation, Conversation])
    container, found = unpacked(tmp_path, b'[{"a": 1}]\n' + LINES)
    assert (container, len(found)) == (None, 3)


def test_an_array_larger_than_the_window_is_read_whole(tmp_path: Path) -> None:
    many = [record(f"q{n} " + "x" * 5000, n) for n in range(1000)]
    path, target = tmp_path / "data", tmp_path / "lines"
    path.write_text(json.dumps(many, indent=1))
    assert unpack(path, target) is not None
    assert [line for line, _ in valid_conversations(target)] == list(range(1, 1001))
