"""What `trainctl check` says about a file."""

from pathlib import Path
from typing import Any

from app.conversations.findings import check_lines
from app.errors import AppError, wrong_field
from app.schemas import TrainingConfig

DEFAULT_MAX_LENGTH: int = TrainingConfig.model_fields["max_length"].default


class Unreadable(AppError):
    status_code, code, message = 422, "unreadable", "The file cannot be read."


def check(path: Path, model: str | None = None, max_length: int = DEFAULT_MAX_LENGTH) -> dict[str, Any]:
    """{"records", "valid", "findings"} of a JSONL file, the findings complete and in the order of the lines.

    Raises `Unreadable`, and `WrongInput` for what this version does not look at: lengths in a model's tokens.
    """
    if model is not None:
        raise wrong_field("model", "lines are not yet measured with a model's tokenizer; leave it out")
    if max_length != DEFAULT_MAX_LENGTH:
        raise wrong_field("max_length", "lines are not yet measured by length; leave it out")
    records = valid = 0
    findings: list[dict[str, Any]] = []
    try:
        for checked in check_lines(Path(path)):
            records += 1
            valid += checked.conversation is not None
            findings.extend(finding.as_json() for finding in checked.findings)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}.") from None
    return {"records": records, "valid": valid, "findings": findings}


def exit_code(report: dict[str, Any]) -> int:
    """0 without an error, 1 with one. 2, unreadable or wrong usage, is what an `AppError` of `check` means."""
    return int(any(finding["severity"] == "error" for finding in report["findings"]))


def summary(report: dict[str, Any], path: Path) -> list[str]:
    """The report as lines for a terminal, each finding on one."""
    lines = [f"{path}:{one['line']}: {one['severity']} {one['kind']}: {one['message']}" for one in report["findings"]]
    return [*lines, f"{report['records']:,} records, {report['valid']:,} valid, {len(lines):,} findings"]
