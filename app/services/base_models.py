"""Which base models a job may name, judged on the server without loading anything."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.errors import wrong_field
from app.geometry import BUILT_IN, Geometry, read_geometry
from app.model_folder import has_tokenizer, missing_parts
from app.schemas import TINY_MODEL

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$", re.ASCII)


@dataclass(frozen=True)
class BaseModels:
    roots: tuple[Path, ...]
    hub: bool
    default: str | None = None

    def names(self) -> list[str]:
        """Models that can be named at once: the built-in one and every complete folder under a root."""
        found = {TINY_MODEL}
        for root in self.roots:
            if root.is_dir():
                found |= {one.name for one in root.iterdir() if one.is_dir() and not missing_parts(one)}
        return sorted(found)

    def folder(self, name: str) -> Path | None:
        """The local folder of that name, or of that path where it lies under a root."""
        for root in self.roots:
            place = root / name
            try:
                if place.is_dir() and place.resolve().is_relative_to(root.resolve()):
                    return place
            except OSError:
                continue  # no file system has so long a name
        return None

    def geometry(self, name: str) -> Geometry | None:
        """The sizes of a model, from its config.json where it is here; None where nobody knows them."""
        folder = self.folder(name)
        if folder is None or not (folder / "config.json").is_file():
            return BUILT_IN.get(name)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (ValueError, OSError):
            return None
        return read_geometry(config) if isinstance(config, dict) else None

    def tokenizer_folder(self, name: str | None, data_dir: Path) -> Path:
        """Where tokenizer and template of a model lie, for the preview; raises `WrongInput` where they are not here."""
        name = name or self.default or TINY_MODEL
        if name == TINY_MODEL:
            place = data_dir / "preview" / TINY_MODEL
            if not (place / "tokenizer.json").is_file():
                write_tiny_tokenizer(place)
            return place
        if (folder := self.folder(name)) is not None and has_tokenizer(folder):
            return folder
        raise wrong_field(
            "model", f"the tokenizer of {name!r} is not on this machine; choose one of {', '.join(self.names())}"
        )

    def problem(self, name: str) -> str | None:
        """One sentence on why a job cannot name this model, or None."""
        if name == TINY_MODEL:
            return None
        folder = self.folder(name)
        where = " or ".join(str(root) for root in self.roots)
        if folder is not None:
            missing = missing_parts(folder)
            return f"{folder} is not complete: {', '.join(missing)}" if missing else None
        if not HUB_ID.match(name):
            return f"there is no folder {name!r} in {where}, and it is not a Hub id like Qwen/Qwen3-VL-8B-Instruct"
        if not self.hub:
            return f"the Hub is off here; place the files of {name} in {self.roots[0] / name}"
        return None
