"""Imports: the folders form layers, imports go to the same or a lower layer, and there are no cycles."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest
from small_subnetworks import smallest

import subnet_problems

ROOT = Path(__file__).parents[1]
#: From the lowest layer to the highest. A module imports from its own layer and from lower ones.
LAYERS = ("networks", "masks", "tasks", "subnetworks", "problems", "pictures", "experiments", "command")
#: Folders that may import ``algorithms``.
USE_ALGORITHMS = ("experiments", "command")


def modules() -> dict[str, Path]:
    """Every module of both packages, by its dotted name."""
    paths = [path for package in ("subnet_problems", "algorithms") for path in (ROOT / package).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


MODULES = modules()


def imports_of(module: str) -> list[tuple[str, str]]:
    """All imports of a module from these packages, also in functions and for type checkers: (module, name) pairs."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.append((inner, "") if inner in MODULES else (source, alias.name))
    return [(source, name) for source, name in found if source in MODULES and source != module]


def layer_of(module: str) -> int | None:
    """The index of a module's layer; None for modules at the top of a package, which belong to no layer."""
    parts = module.split(".")
    return LAYERS.index(parts[1]) if parts[0] == "subnet_problems" and parts[1:] and parts[1] in LAYERS else None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_its_own_and_lower_layers(module):
    layer = layer_of(module)
    shared = layer is None and module not in ("subnet_problems", "subnet_problems.__main__")
    for source, _ in imports_of(module):
        other = layer_of(source)
        if module.startswith("algorithms"):
            assert source.startswith("algorithms"), f"{module} imports {source}"
        elif source.startswith("algorithms"):
            assert layer is not None
            assert LAYERS[layer] in USE_ALGORITHMS, f"{module} imports {source}"
        elif other is not None:
            assert not shared, f"{module} is used by all floors, and imports {source}"
            assert layer is None or other <= layer, f"{module} imports {source}, which is above it"


def test_there_are_no_import_cycles():
    graph = {module: {source for source, _ in imports_of(module)} for module in MODULES}
    # A package's __init__ re-exports the names of its modules; modules import each other, not the package.
    modules = {module for module in MODULES if MODULES[module].name != "__init__.py"}
    TopologicalSorter({module: graph[module] & modules for module in modules}).prepare()  # raises CycleError


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_a_private_name_of_another(module):
    assert [
        f"{source}.{name}" for source, name in imports_of(module) if name.startswith("_") and name != "__version__"
    ] == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name)
def test_examples_use_only_public_names(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        f"{getattr(node, 'module', None) or ''}.{alias.name}".lstrip(".") for node in nodes for alias in node.names
    }
    ours = {name for name in names if name.split(".")[0] in ("subnet_problems", "algorithms")}
    assert {name for name in ours if any(part.startswith("_") for part in name.split("."))} == set()


#: Packages that take seconds to import; using a saved policy must not import them.
HEAVY = ("evotorch", "ray", "pymoo", "matplotlib", "pandas", "numba", "moocore", "scipy")


def test_using_a_saved_policy_does_not_import_the_packages_for_searches(tmp_path):
    smallest().save(tmp_path / "policy.safetensors")
    code = f"""
import sys
from subnet_problems import Subnetwork
policy = Subnetwork.load("policy.safetensors")
policy.formula()
policy.export_c("header")
from subnet_problems.command import main
for words in (["show", "policy.safetensors"], ["export", "policy.safetensors", "again"], ["--help"]):
    sys.argv[1:] = words
    assert main() == 0, words
print("heavy:", *(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.splitlines()[-1], done.stderr, done.returncode) == ("heavy:", "", 0)


def test_the_version_equals_that_of_the_installed_package():
    assert subnet_problems.__version__ == version("subnet-problems")
