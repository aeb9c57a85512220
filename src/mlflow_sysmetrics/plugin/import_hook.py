"""Patches a module of MLflow once MLflow has imported it."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportHook(MetaPathFinder):
    """Waits until a module is imported, then patches it.

    A module that lacks what the patch needs stays as it is.

    Args:
        module: Name of the module.
        patch: Changes the module after its execution.
    """

    def __init__(self, module: str, patch: Callable[[ModuleType], None]) -> None:
        self.module = module
        self._patch = patch

    def install(self) -> None:
        """Wait for the import, unless a hook for this module waits already."""
        if not is_awaited(self.module):
            sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None = None,
        _target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the module as usual, and patch it after its execution."""
        if fullname != self.module or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # or the search would come back here
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            with contextlib.suppress(AttributeError, ImportError):
                self._patch(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign] # this once
        return spec


def is_awaited(module: str) -> bool:
    """Whether a hook waits for a module."""
    return any(isinstance(each, ImportHook) and each.module == module for each in sys.meta_path)
