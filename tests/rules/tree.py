"""The files of the repository, as git sees them (a folder without git counts everything that a checkout has)."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT = {".venv", ".git", "secrets", "build", "dist", "data", "models"}


@cache
def all_files() -> tuple[Path, ...]:
    """Every file that is or may be committed, relative to the root."""
    listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = [Path(name) for name in done.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    return tuple(sorted(path for path in found if path.parts[0] not in BUILT and (ROOT / path).is_file()))


def files(*suffixes: str, under: tuple[str, ...] = ()) -> list[Path]:
    """Files of ours with one of these suffixes; vendored ones are other people's work."""
    return [
        path
        for path in all_files()
        if path.suffix in suffixes and (not under or path.parts[0] in under) and "vendor" not in path.parts
    ]


def text(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")
