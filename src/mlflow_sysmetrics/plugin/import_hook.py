"""Patches a module of MLflow once MLflow has imported it."""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportHook(MetaPathFinder):
    """Waits until a module is imported, then changes it.

    Attributes:
        module: Its name.
    """

    module: str

    def change(self, module: ModuleType) -> None:
        """Change what has just been imported; raises nothing."""
        raise NotImplementedError

    def install(self) -> None:
        """Wait for the import, unless one of this kind waits already."""
        if not any(isinstance(finder, type(self)) for finder in sys.meta_path):
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
            self.change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign] # this once
        return spec
