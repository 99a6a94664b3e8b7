"""Sidecars: NAME.yaml beside a file of the inbox says how it shall be trained. Wrong ones are told by line and key."""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import msgspec
import yaml

from app.conversations.containers.reading import Reading
from app.errors import AppError
from app.schemas import TrainingConfig

JOB_KEYS = ("model", "name", "priority", "from_adapter", "recipe", "retries")
CONFIG_KEYS = tuple(TrainingConfig.model_fields)
READING_KEYS = ("shape", "fields")
KEYS = (*JOB_KEYS, "config", *CONFIG_KEYS, *READING_KEYS)


class SidecarWrong(AppError):
    status_code, code = 422, "sidecar_wrong"


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2's numbers as well: to the library 1e-4 is a text, and so learning rates are written."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


@dataclass(frozen=True)
class Sidecar:
    """What one says: parts of the body of `POST /api/jobs`, the line of each key, and how the records are meant."""

    name: str
    body: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def wrong(self, detail: list[dict[str, str]]) -> SidecarWrong:
        """What the check of the job found, said of the sidecar."""
        first = detail[0]
        key = first["field"].removeprefix("config.")
        where = f" line {self.lines[key]}" if key in self.lines else ""
        rest = f" ({len(detail) - 1} more)" if len(detail) > 1 else ""
        return SidecarWrong(f"{self.name}{where}: {key} {first['message']}; mend it and save it{rest}.", detail)


def read(name: str, data: bytes) -> Sidecar:
    """Read a sidecar; raises `SidecarWrong` with one sentence for the first thing that is wrong."""
    root, value = _load(name, data)
    if value is None:
        return Sidecar(name)
    if not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        raise SidecarWrong(f"{name} must hold one `key: value` a line, such as `model: NAME`.")
    lines = _lines(name, root, KEYS)
    body = {key: value[key] for key in JOB_KEYS if value.get(key) is not None}
    config = {key: value[key] for key in CONFIG_KEYS if key in value}
    if (inner := value.get("config")) is not None:
        node = next(part for key, part in root.value if key.value == "config")
        if not isinstance(node, yaml.MappingNode):
            raise SidecarWrong(f"{name} line {lines['config']}: config must hold `key: value` lines of its own.")
        inner_lines = _lines(name, node, CONFIG_KEYS)
        if twice := sorted(set(config) & set(inner)):
            raise _wrong_key(name, inner_lines[twice[0]], f"{twice[0]!r} stands here and above; keep one of them")
        config, lines = config | inner, lines | inner_lines
    return Sidecar(name, body | {"config": config}, lines, _reading(name, value, lines))


def _reading(name: str, value: dict[str, Any], lines: dict[str, int]) -> Reading:
    """`shape: prompt` and `fields: {prompt: question, response: answer}`, where the keys of a file need it."""
    given = {key: value[key] for key in READING_KEYS if value.get(key) is not None}
    try:
        reading = msgspec.convert(given, Reading)
    except msgspec.ValidationError:
        key = "fields" if isinstance(given.get("shape", ""), str) else "shape"
        told = "must be one word" if key == "shape" else "must hold `prompt: question` and such, texts alone"
        raise _wrong_key(name, lines[key], f"{key} {told}") from None
    if problem := reading.problem():
        raise _wrong_key(name, lines[problem[0]], " ".join(problem))
    return reading


def _load(name: str, data: bytes) -> tuple[Any, Any]:
    """(node, value) of the document: the node knows the lines, the value is plain data."""
    try:
        loader = Loader(data)
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise SidecarWrong(
            f"{name}{where} is not YAML: {error.problem or error.context}; mend it and save it."
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        raise SidecarWrong(f"{name} is not YAML in UTF-8; write it anew, one `key: value` a line.") from None


def _lines(name: str, node: yaml.MappingNode, known: tuple[str, ...]) -> dict[str, int]:
    """The line of each key; raises `SidecarWrong` for one that is unknown or stands twice."""
    lines: dict[str, int] = {}
    for part, _ in node.value:
        key, line = str(part.value)[:80], part.start_mark.line + 1
        if key in lines:
            raise _wrong_key(name, line, f"{key!r} stands on line {lines[key]} already; keep one of them")
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "leave it out, or name a key of POST /api/jobs"
            raise _wrong_key(name, line, f"{key!r} is not known here; {hint}")
        lines[key] = line
    return lines


def _wrong_key(name: str, line: int, message: str) -> SidecarWrong:
    return SidecarWrong(f"{name} line {line}: {message}" + ("" if message.endswith("?") else "."))
