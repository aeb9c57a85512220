"""What pytest collects where a system lacks what some tests need."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONFTEST = TESTS / "conftest.py"

POSIX_ALONE = {"fcntl", "grp", "pwd", "resource", "termios", "pty"}


def need_posix() -> tuple[str, ...]:
    """The files that Windows does not collect, as conftest.py names them."""
    for node in ast.parse(CONFTEST.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NEED_POSIX":
            names: tuple[str, ...] = ast.literal_eval(node.value)
            return names
    raise AssertionError


def modules_imported_by(file: Path) -> set[str]:
    """Those that a file imports as it is imported itself."""
    body = ast.parse(file.read_text()).body
    imported = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    return imported | {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", need_posix())
def test_what_windows_does_not_collect_exists(path: str) -> None:
    assert (TESTS / path).is_file()


def test_what_imports_modules_of_posix_alone_is_not_collected_on_windows() -> None:
    importing = {
        str(file.relative_to(TESTS))
        for file in TESTS.rglob("test_*.py")
        if modules_imported_by(file) & POSIX_ALONE
    }

    assert importing <= set(need_posix())
