"""Everything an attempt needs on this machine before its trainer can start."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from app.config import Settings
from app.errors import WrongInput
from app.processes import die_with_parent, with_repository
from app.schemas import JobSpec, Source, read_config
from worker.base_models import BaseModel, resolve
from worker.cache import Cache
from worker.client import JobClient, Refused, ServerAway
from worker.faults import PreparationFailed, checkpoint_broken, disk_full
from worker.files import WrongBytes, holds, link_or_copy, write_json
from worker.messages import Claim, DatasetSpec, FileSpec

Report = Callable[[str, str], None]

RETRY_S = 0.5
WRONG_BYTES_TRIES = 3


class Abandoned(Exception):
    """The job is not wanted here any more."""


class Preparation:
    """Fetches data, checkpoint and base model. `report` takes phase and message; `abandon` ends it soon."""

    def __init__(
        self, claim: Claim, job: JobClient, settings: Settings, job_dir: Path, report: Report, cache: Cache
    ) -> None:
        self._claim, self._job, self._settings, self._job_dir = claim, job, settings, job_dir
        self._report, self._cache = report, cache
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        self._abandoned.set()

    def run(self) -> None:
        """Writes job.json. Raises `PreparationFailed`, `Fenced` or `Abandoned`."""
        try:
            write_json(self._job_dir / "job.json", self._spec().model_dump(mode="json"))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_full(str(self._settings.work_path)) from error

    def _spec(self) -> JobSpec:
        claim = self._claim
        if claim.kind != "train":
            raise PreparationFailed(
                "unknown_kind", f"This worker cannot do jobs of the kind {claim.kind!r}.", "Update the worker."
            )
        try:
            config = read_config(claim.config)
        except WrongInput as error:
            advice = "Make a new job with these fields corrected."
            raise PreparationFailed("wrong_config", str(error), advice) from error
        mixture = [self._source(one) for one in claim.mixture]
        dataset_path = mixture[0].path if mixture else self._dataset("dataset", claim.dataset)
        validation = claim.validation_dataset
        validation_path = self._dataset("validation-dataset", validation) if validation else None
        model = resolve(claim.model, self._settings, self._download, self._fetch_model)
        parent_path = self._parent_files()
        resume_path = self._resume_files()
        return JobSpec(
            job_id=claim.job_id,
            attempt=claim.attempt,
            name=claim.name,
            model=claim.model,
            model_path=str(model.path),
            model_revision=model.revision,
            dataset_path=str(dataset_path),
            dataset=claim.dataset.model_dump(exclude={"weight"}),
            mixture=mixture,
            validation_path=str(validation_path) if validation_path else None,
            validation_dataset=validation.model_dump(exclude={"weight"}) if validation else None,
            config=config,
            resume_path=str(resume_path) if resume_path else None,
            resume_step=claim.resume.step if claim.resume else 0,
            from_adapter_path=str(parent_path) if parent_path else None,
            from_adapter=claim.from_adapter.model_dump(exclude={"files"}) if claim.from_adapter else None,
        )

    def _source(self, spec: DatasetSpec) -> Source:
        path = self._dataset(f"datasets/{spec.id}", spec)
        return Source(path=str(path), dataset=spec.model_dump(exclude={"weight"}), weight=spec.weight or 1.0)

    def _dataset(self, which: str, spec: DatasetSpec) -> Path:
        """The path of the cached copy, fetched now if it is not there whole."""
        target, file = self._cache.dataset(spec.sha256), FileSpec(path=which, size=spec.size, sha256=spec.sha256)
        self._cache.hold(target)
        with self._cache.fetching(target, self._go_on):
            if not self._cache.has(target, file, target):
                self._report("fetching", f"Fetching the dataset {spec.name} ({spec.size / 1e6:,.1f} MB)")
                self._cache.make_room(spec.size)
                self._fetch(spec.name, lambda: self._job.get_dataset(which, spec, target, self._go_on))
        return target

    def _fetch_model(self) -> Path | None:
        """The base model's folder, fetched from the control center; None where it has none."""
        listed: list[list[FileSpec] | None] = []
        self._fetch(self._claim.model, lambda: listed.append(self._job.model_files()))
        files = listed[-1]
        if files is None:
            return None
        folder = self._cache.model(files)
        self._cache.hold(folder)
        with self._cache.fetching(folder, self._go_on):
            missing = [file for file in files if not self._cache.has(folder, file, self._inside(folder, file.path))]
            self._cache.make_room(sum(file.size for file in missing))
            for file in missing:
                text = (
                    f"Fetching {file.path} of {self._claim.model} ({file.size / 1e9:,.2f} GB) from the control center"
                )
                self._report("fetching", text)
                target = folder / file.path
                self._fetch(file.path, partial(self._job.get_model_file, file, target, self._go_on))
        return folder

    def _resume_files(self) -> Path | None:
        """The folder of the checkpoint to go on from, with every file checked."""
        resume = self._claim.resume
        if resume is None:
            return None
        folder = self._job_dir / "resume"
        for file in resume.files:
            try:
                self._resume_file(file, resume.attempt, folder / file.path)
            except PreparationFailed as failure:
                if failure.code not in ("file_damaged", "file_missing"):
                    raise
                raise checkpoint_broken(resume.step, failure.message.rstrip(".")) from failure
        return folder / resume.path

    def _parent_files(self) -> Path | None:
        """The folder of the adapter to go on from, with every file checked."""
        parent = self._claim.from_adapter
        if parent is None:
            return None
        folder = self._job_dir / "from_adapter"
        for file in parent.files:
            target = self._inside(self._job_dir, folder / file.path)
            if not holds(target, file.size, file.sha256):
                self._report("fetching", f"Fetching {file.path} of the adapter {parent.name}")
                self._fetch(file.path, partial(self._job.get_parent_file, file, target, self._go_on))
        return folder

    def _inside(self, folder: Path, path: str | Path) -> Path:
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise PreparationFailed("wrong_path", f"{target.name!r} leads out of the job.", "Update the worker.")
        return target

    def _resume_file(self, file: FileSpec, attempt: int, target: Path) -> None:
        self._inside(self._job_dir, target)
        own = self._job_dir.parent / f"attempt-{attempt}" / file.path
        if holds(own, file.size, file.sha256):
            link_or_copy(own, target)
        elif not holds(target, file.size, file.sha256):
            self._fetch(file.path, lambda: self._job.get_file(file, attempt, target, self._go_on))

    def _go_on(self) -> None:
        if self._abandoned.is_set():
            raise Abandoned

    def _fetch(self, name: str, download: Callable[[], None]) -> None:
        """Tries until it is here; a control center that is away is waited for."""
        wrong = 0
        while not self._abandoned.is_set():
            try:
                return download()
            except ServerAway:
                self._abandoned.wait(RETRY_S)
            except WrongBytes as error:
                wrong += 1
                if wrong == WRONG_BYTES_TRIES:
                    advice = "The stored copy changed on its disk: upload it again."
                    raise PreparationFailed("file_damaged", str(error), advice) from error
            except Refused as error:
                advice = "See whether it was deleted."
                raise PreparationFailed("file_missing", f"{name}: {error.message}", advice) from error
        raise Abandoned

    def _download(self, repository: str) -> BaseModel:
        """Runs `worker.hub` and reports its progress; ends it when the job is abandoned."""
        self._report("downloading", f"Downloading {repository} from the Hub")
        command = [sys.executable, "-m", "worker.hub", repository]
        environment = with_repository(dict(os.environ))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment, text=True, preexec_fn=die_with_parent()
        ) as process:
            threading.Thread(target=self._end_when_abandoned, args=(process,), daemon=True).start()
            last: dict[str, Any] = {}
            for text in process.stdout or ():
                last = json.loads(text)
                if "done" in last:
                    self._report("downloading", _progress(repository, last["done"], last["total"]))
        return self._downloaded(repository, last)

    def _downloaded(self, repository: str, last: dict[str, Any]) -> BaseModel:
        if self._abandoned.is_set():
            raise Abandoned
        if "path" in last:
            return BaseModel(Path(last["path"]), last["revision"])
        ended = {"message": f"The download of {repository} broke off.", "advice": "Start the job again."}
        raise PreparationFailed(**last.get("error", {"code": "download_failed", **ended}))

    def _end_when_abandoned(self, process: "subprocess.Popen[str]") -> None:
        while process.poll() is None:
            if self._abandoned.wait(0.2):
                process.kill()
                return


def _progress(repository: str, done: int, total: int) -> str:
    return f"Downloading {repository}: {done / 1e9:.1f} of {total / 1e9:.1f} GB ({100 * done / max(1, total):.0f} %)"
