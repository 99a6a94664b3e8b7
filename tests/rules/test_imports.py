"""Who may import whom. The contracts of pyproject.toml, and what such a contract cannot say."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from tests.rules.tree import ROOT

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors")
TRAINER_MAY = (
    "app.schemas",
    "app.errors",
    "app.conversations",
    "app.geometry",
    "app.estimate",
    "app.planner",
    "app.model_folder",
)
WORKER_MAY = (*TRAINER_MAY, "app.config", "app.broker", "app.gpus", "app.processes", "app.versions")
# What a machine with a GPU needs for a training by hand, and what comes along with torch and transformers.
TRAINER_NEEDS = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "jinja2", "PIL", "msgspec", "pydantic")
COMES_ALONG = ("numpy", "safetensors")
LONGEST_CHAIN = 16  # from the command line down to the tables


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("app", "worker", cache_dir=None)


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def imports_from_app(graph: grimp.ImportGraph, *, trainer: bool) -> Iterator[tuple[str, str]]:
    """(importer, imported) for every import of ours from the web side."""
    for importer in graph.modules:
        if is_in(importer, ("worker",)) and is_in(importer, ("worker.trainer",)) == trainer:
            for imported in graph.find_modules_directly_imported_by(importer):
                if is_in(imported, ("app",)):
                    yield importer, imported


def test_the_contracts_of_pyproject_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_worker_takes_only_the_shared_modules_of_the_web_side(graph: grimp.ImportGraph) -> None:
    strays = [pair for pair in imports_from_app(graph, trainer=False) if not is_in(pair[1], WORKER_MAY)]
    assert strays == []


def test_the_trainer_takes_only_the_data_code_of_the_web_side(graph: grimp.ImportGraph) -> None:
    strays = [pair for pair in imports_from_app(graph, trainer=True) if not is_in(pair[1], TRAINER_MAY)]
    assert strays == []


def test_the_trainer_and_its_data_code_need_few_libraries() -> None:
    graph = grimp.build_graph("app", "worker", cache_dir=None, include_external_packages=True)
    ours = [module for module in graph.modules if is_in(module, ("worker.trainer",))]
    foreign: dict[str, str] = {}
    for module in ours:  # grows while it is gone through
        for imported in graph.find_modules_directly_imported_by(module):
            if not is_in(imported, ("app", "worker")):
                foreign[imported] = module
            elif imported not in ours:
                ours.append(imported)
    known = {*TRAINER_NEEDS, *COMES_ALONG, *sys.stdlib_module_names}
    assert {name: module for name, module in foreign.items() if name not in known} == {}


def test_no_chain_of_imports_is_long(graph: grimp.ImportGraph) -> None:
    ours = {name for name in graph.modules if is_in(name, ("app", "worker"))}
    depth: dict[str, int] = {}

    def measure(module: str) -> int:
        if module not in depth:
            below = graph.find_modules_directly_imported_by(module) & ours
            depth[module] = 1 + max((measure(one) for one in below), default=0)
        return depth[module]

    assert {name: measure(name) for name in sorted(ours) if measure(name) > LONGEST_CHAIN} == {}


@pytest.mark.parametrize("module", ["app.main", "app.cli", "app.launch", "worker.main"])
def test_starting_loads_no_library_for_training(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
