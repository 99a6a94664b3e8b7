"""Budgets: short files, short functions. A larger one stands here by name, with its reason, or it is cut."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.rules.tree import files, text

SOURCE = ("app", "worker")  # a migration is a list, not code
LARGEST_FILE = 300
LONGEST_FUNCTION = 60
LONGEST_CRUX = 120

LARGE_FILES: dict[str, str] = {
    "app/models.py": "all tables stand on one page",
    "static/css/app.css": "one hand-written style sheet; the browser fetches it once",
}

# One named function per area may be long, because reading it from top to bottom is the point of it.
CRUXES: dict[str, str] = {}


def functions(under: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """("file:name", lines) of every function; what is nested counts for the outer one too."""
    for path in files(".py", under=under):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("suffix", [".py", ".html", ".js", ".css", ".sh"])
def test_no_file_is_longer_than_it_may_be(suffix: str) -> None:
    sizes = {str(path): text(path).count("\n") for path in files(suffix)}
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE and name not in LARGE_FILES} == {}


def test_no_function_is_long_but_the_named_ones() -> None:
    found = dict(functions((*SOURCE, "tests", "benchmarks")))
    assert {name: size for name, size in found.items() if size > LONGEST_FUNCTION and name not in CRUXES} == {}


def test_the_exceptions_are_still_needed_and_still_bounded() -> None:
    sizes = dict(functions(SOURCE))
    assert [name for name in CRUXES if not LONGEST_FUNCTION < sizes.get(name, 0) <= LONGEST_CRUX] == []
    assert [name for name in LARGE_FILES if text(Path(name)).count("\n") <= LARGEST_FILE] == []


def test_the_usual_function_is_short() -> None:
    sizes = [size for _, size in functions(SOURCE)]
    assert (median(sizes), quantiles(sizes, n=10)[-1]) <= (10, 30)


def test_the_usual_test_is_short() -> None:
    sizes = [size for name, size in functions(("tests",)) if name.split(":")[1].startswith("test_")]
    assert median(sizes) <= 12
