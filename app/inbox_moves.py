"""Where files of the inbox go when they have ended: into a folder of it, with their papers, and back for a replay.

A move is done again as often as it takes: the row names the target before anything on disk changes, and changes last.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from app import inbox_files as files
from app.db import Database
from app.inbox_files import MANIFEST, REPORT
from app.inbox_table import InboxFile
from app.models import Dataset
from app.services import inbox

FOLDERS = {"archived": "archive", "duplicate": "archive", "quarantined": "quarantine", "failed": "failed"}
logger = logging.getLogger(__name__)


class Mover:
    def __init__(self, folder: Path, database: Database) -> None:
        self._folder, self._database = folder, database
        self._swept = False
        self._told: dict[int, str] = {}

    def finish(self) -> None:
        """Carry out every move that is due; one that cannot be made is told and tried again."""
        with self._database.read() as session:
            due = inbox.due(session)
        if due and not self._swept:
            for folder in {*FOLDERS.values()}:
                files.sweep_parts(self._folder / folder)
            self._swept = True
        for row_id in due:
            try:
                self._carry_out(row_id)
                self._told.pop(row_id, None)
            except OSError as error:
                if self._told.get(row_id) != str(error):
                    logger.warning("File %s of the inbox cannot be put in its place: %s", row_id, error)
                self._told[row_id] = str(error)

    def _carry_out(self, row_id: int) -> None:
        with self._database.read() as session:
            row = inbox.get(session, row_id)
        source = self._source(row)
        target = self._target(row, source)
        if source is not None:
            try:
                files.move(source, target)
            except FileExistsError:
                # Somebody put a file there meanwhile: another name next time.
                self._name_target(row_id, None)
                return
        there = files.look(target) is not None
        if there:
            self._move_sidecar(row, target)
        if row.becoming == "settling":
            self._back_again(row, target)
            return
        self._write_papers(row_id, target)
        if row.place is not None and "/" in row.place:
            self._remove_papers(row.place)
        with self._database.write() as session:
            row = inbox.get(session, row_id)
            inbox.end(session, row, row.target if there else None)

    def _source(self, row: InboxFile) -> Path | None:
        """Where its file lies; None once it was moved, or where another one lies there now."""
        if row.place is None:
            return None
        path = self._folder / row.place
        seen = files.look(path)
        if seen is None or ("/" not in row.place and seen.stamp != (row.size, row.mtime_ns)):
            return None
        return path

    def _target(self, row: InboxFile, source: Path | None) -> Path:
        """Its place to be, the same at every try."""
        if row.target is not None:
            return self._folder / row.target
        folder = FOLDERS.get(row.becoming or "", "")
        if folder:
            files.make_folder(self._folder / folder)
        place = self._folder / folder
        name = Path(row.place or row.name).name if source is not None else row.name
        target = f"{folder}/{files.free_name(place, name)}".lstrip("/")
        self._name_target(row.id or 0, target)
        return self._folder / target

    def _name_target(self, row_id: int, target: str | None) -> None:
        with self._database.write() as session:
            row = inbox.get(session, row_id)
            row.target = target
            session.add(row)

    def _back_again(self, row: InboxFile, target: Path) -> None:
        """A replayed file lies in the inbox: its row starts anew."""
        seen = files.look(target)
        if row.state != "archived" and row.place is not None:
            self._remove_papers(row.place)
        with self._database.write() as session:
            row = inbox.get(session, row.id or 0)
            if seen is None:
                inbox.stay(session, row)
            else:
                inbox.begin_again(session, row, target.name, *seen.stamp)

    def _move_sidecar(self, row: InboxFile, target: Path) -> None:
        """It goes along with its file, unless it is that of another file too: then a copy does."""
        if row.place is None:
            return
        source = self._folder / row.place
        sidecar = files.find_sidecar(source.parent, source.name)
        if sidecar is None:
            return
        copy = target.with_name(f"{target.name}.yaml")
        with files.open_plain(sidecar) as stream:
            text = stream.read(files.LARGEST_SIDECAR).decode("utf-8", "replace")
        files.write_whole(copy, [text])
        if sidecar != copy and not self._is_shared(sidecar, source.name):
            sidecar.unlink()

    def _is_shared(self, sidecar: Path, name: str) -> bool:
        others = (seen.name for seen in files.scan(sidecar.parent) if seen.name != name)
        return any(files.find_sidecar(sidecar.parent, other) == sidecar for other in others)

    def _write_papers(self, row_id: int, target: Path) -> None:
        """The manifest of what was trained or should have been; the report of lines that could not be."""
        with self._database.read() as session:
            row = inbox.get(session, row_id)
            paper = inbox.manifest(session, row)
            dataset = session.get(Dataset, row.dataset_id) if row.dataset_id else None
            in_error = dataset is not None and dataset.num_valid != dataset.num_records
        if row.becoming != "quarantined":
            text = json.dumps(paper, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
            files.write_whole(target.with_name(target.name + MANIFEST), [text])
        if row.becoming == "quarantined" or (in_error and row.becoming == "archived"):
            files.write_whole(target.with_name(target.name + REPORT), self._report(row_id))

    def _report(self, row_id: int) -> Iterator[str]:
        """Counts and every finding, written as they are read."""
        with self._database.read() as session:
            row = inbox.get(session, row_id)
            paper = inbox.manifest(session, row)
            kinds = ("file", "state", "note", "sha256", "size", "dataset", "records", "valid")
            head = {key: paper[key] for key in kinds} | {"counts": paper["findings"]}
            yield json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "findings": ['
            comma = ""
            for one in inbox.findings(session, row):
                yield f"{comma}\n  {json.dumps(one, ensure_ascii=False)}"
                comma = ","
            yield "\n ]\n}\n"

    def _remove_papers(self, place: str) -> None:
        """Ours of an earlier end, which is not its end any more."""
        for paper in (MANIFEST, REPORT):
            path = self._folder / f"{place}{paper}"
            path.unlink(missing_ok=True)
