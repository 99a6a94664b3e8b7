"""What `trainctl check` says about a file."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.config import Settings
from app.conversations.containers.reading import Reading
from app.conversations.containers.unpack import AS_IT_IS, unpack
from app.conversations.inspection import inspect
from app.conversations.lints import leakage
from app.conversations.part import Options
from app.conversations.reader import valid_conversations
from app.errors import AppError
from app.schemas import DEFAULT_SYSTEM_PROMPT, TrainingConfig
from app.services.base_models import BaseModels

DEFAULT_MAX_LENGTH: int = TrainingConfig.model_fields["max_length"].default


class Unreadable(AppError):
    status_code, code, message = 422, "unreadable", "The file cannot be read."


def check(
    path: Path,
    model_dir: Path | None = None,
    max_length: int = DEFAULT_MAX_LENGTH,
    train: Path | None = None,
    reading: Reading = AS_IT_IS,
) -> dict[str, Any]:
    """{"records", "valid", "findings", "statistics"}, the findings complete and in the order of the lines.

    Lengths go by the tokenizer in `model_dir`, else by the characters. With `train`, the file is looked through for
    questions that are trained on there. Raises `Unreadable`, `Unpackable` and `ModelIncomplete`.
    """
    options = Options(
        max_length=max_length,
        model_dir=str(model_dir) if model_dir else None,
        system_prompt=DEFAULT_SYSTEM_PROMPT,
    )
    try:
        with TemporaryDirectory() as room, inspect(_lines(path, room, reading), options) as seen:
            findings = [finding.as_json() for finding in seen.findings()]
            totals = {"records": seen.num_records, "valid": seen.num_valid}
            if train:
                trained = [leakage.Trained(_trained(train, room, reading))]
                findings += [finding.as_json() for finding in leakage.find(trained, seen.path)]
                findings.sort(key=lambda finding: finding["line"])
            return totals | {"findings": findings, "statistics": seen.totals()}
    except OSError as error:
        raise Unreadable(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None


def _trained(path: Path, room: str, reading: Reading) -> Path:
    """The same for training data, which may be of another shape; raises `Unreadable` where nothing can be compared."""
    for one in (reading, AS_IT_IS):
        lines = _lines(path, room, one)
        if next(valid_conversations(lines), None):
            return lines
    raise Unreadable(f"{path} has no record that can be trained, so nothing can be compared with it.")


def _lines(path: Path, room: str, reading: Reading) -> Path:
    """The file whose lines are the records; unpacked into `room` where it is no plain JSONL."""
    target = Path(room) / f"{len(os.listdir(room))}.jsonl"
    return target if unpack(path, target, reading) else path


def model_folder(name: str | None, settings: Settings) -> Path | None:
    """The folder of a base model, named by its place or as jobs name it; raises `WrongInput`."""
    if name is None or Path(name).is_dir():
        return Path(name) if name else None
    models = BaseModels(tuple(settings.model_root_paths), settings.hub, settings.default_model)
    return models.tokenizer_folder(name, settings.data_dir)


def exit_code(report: dict[str, Any]) -> int:
    """0 without an error, 1 with one. 2, unreadable or wrong usage, is what an `AppError` of `check` means."""
    return int(any(finding["severity"] == "error" for finding in report["findings"]))


def summary(report: dict[str, Any], path: Path) -> list[str]:
    """The report as lines for a terminal, each finding on one."""
    lines = [f"{path}:{one['line']}: {one['severity']} {one['kind']}: {one['message']}" for one in report["findings"]]
    return [*lines, f"{report['records']:,} records, {report['valid']:,} valid, {len(lines):,} findings"]
