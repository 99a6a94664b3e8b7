"""How the check of a dataset ended, in words: what it is, why, and what to do about it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.analysis import STOPPED
from app.conversations.containers.tables import MAPPING

BROKEN = "The check "  # what begins so is a fault of the check, all else one of the file


class Ended(NamedTuple):
    """The banner of a check that found nothing to train, and the sentence where its findings would stand."""

    heading: str = ""
    reason: str = ""
    advice: str = ""
    can_repeat: bool = False
    is_misread: bool = False  # another reading may help
    nothing: str = "It is told when the check is through."


def ended(dataset: Mapping[str, Any]) -> Ended:
    reason = dataset["error"] or ""
    if dataset["state"] == "refused":
        return _refused(dataset, reason)
    if dataset["state"] != "failed":
        return Ended()
    if "gone" in dataset:
        return Ended("Its file was deleted", reason, nothing="Its file was deleted, and its findings with it.")
    if reason == STOPPED:
        words = "It was stopped before it was through, so nothing is known of the records."
        return Ended("The check was stopped", words, can_repeat=True, nothing=words)
    if reason.startswith(BROKEN):
        words = "The check did not get through, so nothing is known of the records."
        return Ended("The check broke down", reason, can_repeat=True, nothing=words)
    words = "The file could not be read, so nothing is known of its records."
    if reason.endswith(MAPPING):
        advice = "Say under “Read it differently” below which column holds the question and which the answer."
        return Ended(
            "The columns of this file are not known",
            reason.removesuffix(MAPPING),
            advice,
            is_misread=True,
            nothing=words,
        )
    advice = "Mend the file and upload it again; as it is, it would end the same way."
    return Ended("This file cannot be read", reason, advice, nothing=words)


def _refused(dataset: Mapping[str, Any], reason: str) -> Ended:
    words = "The file holds no record."
    if not dataset["num_records"]:
        return Ended("There is no record in this file", reason, "Upload one that holds some.", nothing=words)
    advice = "Change the file as the findings below say and upload it again, or say how it is meant."
    return Ended("Nothing in this file can be trained", reason, advice, is_misread=True, nothing=words)


def reading_form(dataset: Mapping[str, Any]) -> dict[str, str]:
    """How the file is read, as the fields of its form have it."""
    kept = dataset["reading"] or {}
    written = ", ".join(f"{key}={own}" for key, own in kept.get("fields", {}).items())
    return {"shape": kept.get("shape") or "", "fields": written}
