"""Imports go down through the layers, never up, never in a circle; also those inside functions."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mlflow_sysmetrics

PACKAGE = "mlflow_sysmetrics"
SOURCE = Path(mlflow_sysmetrics.__file__).parent

LAYERS = (
    "catalog",
    "log",
    "settings",
    "host",
    "sources",
    "collectors",
    "accelerators",
    "facts",
    "sampling",
    "insight",
    "delivery",
    "export",
    "distributed",
    "runs",
    "plugin",
    "lightning",  # its import path is public
    "cli",
)
"""From the lowest up."""

MAY_IMPORT = {
    "mlflow": {"insight", "delivery", "distributed", "runs", "plugin", "lightning", "cli"},
    "pynvml": {"accelerators"},
    "opentelemetry": {"export"},
    "subprocess": {"host", "cli"},  # `watch` starts the user's command
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = members & MODULES.keys()
            names |= modules or {node.module}
    return names


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def layer(module: str) -> str:
    return module.split(".")[1]


INNER = [name for name in MODULES if name != PACKAGE]


def test_a_module_imports_from_its_own_layer_and_from_those_below() -> None:
    upward = [
        f"{module} imports {name}"
        for module in INNER
        for name in IMPORTS[module]
        if name.startswith(PACKAGE) and LAYERS.index(layer(name)) > LAYERS.index(layer(module))
    ]

    assert upward == []


def test_a_library_is_imported_only_where_it_belongs() -> None:
    misplaced = [
        f"{module} imports {name}"
        for module in INNER
        for name in {name.partition(".")[0] for name in IMPORTS[module]} & MAY_IMPORT.keys()
        if layer(module) not in MAY_IMPORT[name]
    ]

    assert misplaced == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: names & MODULES.keys() - {PACKAGE} for name, names in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
