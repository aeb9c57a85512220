"""The way to the machine: file roots, command runner, NVML loader, clock.

Facts and collectors reach the machine through a `Host` and nothing else, so a test injects
another one: a recorded tree under another root, a scripted command, a fake NVML module.
"""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.command_stream import CommandStream
from mlflow_sysmetrics.host.commands import COMMAND_TIMEOUT_S, find_command, run_command
from mlflow_sysmetrics.host.errors import Transient, Unavailable, import_failure, unavailable
from mlflow_sysmetrics.host.files import decode
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import ModuleType


@dataclass(frozen=True)
class Host:
    """One machine, as seen by one process.

    Attributes:
        root: Where `/proc`, `/sys` and `/etc` are found; `/` on the machine itself.
        system: `Linux`, `Darwin` or `Windows`, as `platform.system()` names them.
        environ: The process's environment.
        clock: Time source of samples.
        pid: Process to read limits and tree of; None for this one.
        more_roots: Gives further processes that belong to the tree, with their children.
    """

    root: Path = Path("/")
    system: str = field(default_factory=platform.system)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=Clock)
    pid: int | None = None
    more_roots: Callable[[], Collection[int]] = tuple

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())  # paths are joined to it twice

    @cached_property
    def settings(self) -> Settings:
        """The settings in the process's environment, read once."""
        return Settings.from_env(self.environ)

    @property
    def procfs(self) -> Path:
        """The proc file system."""
        return self.root / "proc"

    @property
    def process_folder(self) -> Path:
        """What the proc file system has on the process."""
        return self.procfs / ("self" if self.pid is None else str(self.pid))

    @property
    def sysfs(self) -> Path:
        """The sys file system."""
        return self.root / "sys"

    def read_text(self, path: Path | str) -> str:
        """Read a small file; a relative `path` is taken below `root`.

        Raises:
            Unavailable: The file is absent or may not be read.
        """
        try:
            content = (self.root / path).read_bytes()
        except OSError as error:
            raise unavailable(path, error) from error
        return decode(content)

    def read_text_or_empty(self, path: Path | str) -> str:
        """Read a small file as `read_text` does, stripped; empty if it is absent.

        Raises:
            Transient: It cannot be read now.
        """
        try:
            return self.read_text(path).strip()
        except Transient:
            raise
        except Unavailable:
            return ""

    def may_use(self, path: str) -> bool:
        """Whether this process may read and write a file below `root`.

        The kernel's answer includes the device rules of a container's control group. The device is
        not opened, since that might wake it up.
        """
        return os.access(self.root / path, os.R_OK | os.W_OK)

    def has_command(self, name: str) -> bool:
        """Whether there is such a command on the PATH."""
        return find_command(name) is not None

    def run(self, command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command and return what it prints, stderr left out.

        This returns or raises shortly after `timeout_s` at the latest, even if the command hangs,
        cannot be killed or prints without end.

        Raises:
            Unavailable: Not installed, failed, too slow, or its output is too long.
        """
        return run_command(command, timeout_s)

    def stream(self, command: Sequence[str]) -> CommandStream:
        """Start a command that prints repeatedly; the caller closes it.

        Raises:
            Unavailable: It is not installed, or cannot be started.
        """
        return CommandStream(command)

    def load_nvml(self) -> ModuleType:
        """Import `pynvml`, the module of the distribution nvidia-ml-py.

        Raises:
            Unavailable: It cannot be imported.
        """
        try:
            return importlib.import_module("pynvml")
        except Exception as error:  # a broken install raises whatever it likes
            reason = import_failure("pynvml (nvidia-ml-py)", error)
            # Unlike a missing GPU, a missing or broken dependency is a fault of the environment.
            warn_once(f"GPUs are not read through NVML: {reason}")
            raise reason from error
