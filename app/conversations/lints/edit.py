"""Changing one text of a raw record in place of its finding."""

import copy
import re
from collections.abc import Callable
from typing import Any

STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def change_text(value: Any, field: str, change: Callable[[str], str]) -> Any:
    """A copy of the record in which the text at the field's path, or each text item there, went through `change`."""
    changed = copy.deepcopy(value)
    *path, last = [key or int(index) for key, index in STEP.findall(field)]
    holder = changed
    for step in path:
        holder = holder[step]
    holder[last] = _changed(holder[last], change)
    return changed


def _changed(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, list):
        return [_changed(item, change) for item in content]
    if isinstance(content, dict):
        return {key: _changed(item, change) for key, item in content.items()}
    return content


def replace_at(value: Any, field: str, change: Callable[[Any], Any]) -> Any:
    """A copy of the record in which whatever stands at the field's path went through `change`."""
    changed = copy.deepcopy(value)
    *path, last = [key or int(index) for key, index in STEP.findall(field)]
    holder = changed
    for step in path:
        holder = holder[step]
    holder[last] = change(holder[last])
    return changed
