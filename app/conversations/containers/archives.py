"""A zip or tar with one data file and images beside it. Nothing is written under a name of the archive's choice."""

import posixpath
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from app.conversations.containers.streams import BROKEN, Unpackable, most_bytes
from app.conversations.reader import LINE_LIMIT

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
TAR, TAR_AT = b"ustar", 257
MOST_FILES = 200_000
DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MAY_BE_NOTES = ".json"  # beside another data file: a description of it
PACKED_SUFFIXES = (".gz", ".zst")


class Archive:
    """The files of an archive, laid out in a folder under numbers; `files` has them by their names.

    Of several files under one name the last counts, as it does where an archive is unpacked.
    """

    def __init__(self, folder: Path, packed_size: int) -> None:
        self._folder = folder
        self._most = most_bytes(packed_size)
        self._total = self._num_added = 0
        self.files: dict[str, Path] = {}

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        pure = PurePosixPath(name)
        if not pure.parts:
            raise Unpackable(f"The archive holds a file under {name[:80]!r}, which is no name.")
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in pure.parts[0]:
            raise Unpackable(f"The archive holds {name[:80]!r}, a name that leads out of it.")
        self._total += size
        if self._total > self._most or self._num_added >= MOST_FILES:
            raise Unpackable(f"The archive unpacks to more than {self._most:,} bytes or {MOST_FILES:,} files.")
        place = self._folder / str(self._num_added)
        self._num_added += 1
        with place.open("wb") as target:
            shutil.copyfileobj(_Exactly(source, size), target, 1 << 20)
        self.files[str(pure)] = place

    def data_file(self) -> str:
        """The name of the one file with records; a .json beside it is none. Raises `Unpackable` for none or several."""
        found = [name for name in self.files if _plain_suffix(name) in DATA_SUFFIXES]
        records = [name for name in found if _plain_suffix(name) != MAY_BE_NOTES] or found
        if len(records) == 1:
            return records[0]
        named = ", ".join(sorted(found)[:5]) or "none"
        raise Unpackable(f"The archive must hold one data file ({', '.join(DATA_SUFFIXES)}); it holds {named}.")

    def image(self, reference: str, beside: str) -> bytes | None:
        """The first `LINE_LIMIT` bytes of a file named in a record of `beside`: relative to it, else to the top."""
        for place in (PurePosixPath(beside).parent / reference, reference):
            if found := self.files.get(posixpath.normpath(place)):
                with found.open("rb") as file:
                    return file.read(LINE_LIMIT)
        return None


class _Exactly:
    """A member's bytes, no more than its header promised."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        return data


def _plain_suffix(name: str) -> str:
    """The suffix of a file without that of its compression; "" where a system put it there."""
    path = PurePosixPath(name)
    if path.parts[0] == "__MACOSX" or path.name.startswith("."):
        return ""
    plain = PurePosixPath(path.stem) if path.suffix.lower() in PACKED_SUFFIXES else path
    return plain.suffix.lower()


@contextmanager
def opened_zip(path: Path, room: Path) -> Iterator[Archive]:
    with TemporaryDirectory(dir=room, prefix=".part-") as folder:
        archive = Archive(Path(folder), path.stat().st_size)
        try:
            with zipfile.ZipFile(path) as packed:
                for info in packed.infolist():
                    _refuse_odd_zip(info)
                    if not info.is_dir():
                        with packed.open(info) as source:
                            archive.add(info.filename, source, info.file_size)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, *BROKEN) as error:
            raise Unpackable(f"The zip file is damaged: {error}.") from None
        yield archive


def _refuse_odd_zip(info: zipfile.ZipInfo) -> None:
    if not info.filename:
        raise Unpackable("The zip file is damaged: it holds a file without a name.")
    if info.flag_bits & 1:
        raise Unpackable("The zip file is encrypted; pack it without a password.")
    if info.external_attr >> 16 & 0o170000 == 0o120000:
        raise Unpackable(f"The zip file holds a link, {info.filename[:80]!r}; pack the files themselves.")


class _Member(tarfile.TarInfo):
    """Without it, a tar that breaks off inside or before a member's header looks whole."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the blocks of zeros with which it ends
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it was cut before its end, or one of its headers is broken ({error})") from None


@contextmanager
def opened_tar(stream: IO[bytes], packed_size: int, room: Path) -> Iterator[Archive]:
    with TemporaryDirectory(dir=room, prefix=".part-") as folder:
        archive = Archive(Path(folder), packed_size)
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as packed:
                for member in packed:
                    if not member.isdir():
                        if not member.isreg():
                            raise Unpackable(f"The tar file holds a link or a device, {member.name[:80]!r}.")
                        source = packed.extractfile(member)
                        assert source is not None, "a regular file has bytes"
                        archive.add(member.name, source, member.size)
        except (tarfile.TarError, *BROKEN) as error:
            raise Unpackable(f"The tar file is damaged: {error}.") from None
        yield archive
