"""The way to the machine: file roots, command runner, NVML loader, clock.

Facts and collectors reach the machine through a `Host` and nothing else, so a test injects
another one: a recorded tree under another root, a scripted command, a fake NVML module.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import importlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_sysmetrics.notices import warn_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from mlflow_sysmetrics.command_stream import CommandStream

COMMAND_TIMEOUT_S = 3.0
"""What a command (`nvidia-smi`, `system_profiler`, …) may take; the bound on what it can cost."""

_COMMAND_OUTPUT_BYTES = 1 << 20
_FIND_TIMEOUT_S = 0.5  # in one folder


class Unavailable(Exception):  # noqa: N818 - a state of the host, not an error of ours
    """A source that this host does not have; the message says why, for a person to read."""


class Absent(Unavailable):
    """Hardware that this host does not have: nothing is amiss."""


class Transient(Unavailable):
    """A source that cannot be read now, for want of a resource: worth another try."""


_WANT_OF_RESOURCE = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETIMEDOUT)
)
"""Error numbers that say nothing about the source, but that the process or host is short of
descriptors, memory, processes or time."""


def unavailable(what: object, error: OSError) -> Unavailable:
    """Why something cannot be read, as the exception to raise.

    Args:
        what: The file or command.
        error: How opening or reading it failed.

    Returns:
        `Transient` where the process or the host was short of a resource.
    """
    kind = Transient if is_shortage(error) else Unavailable
    return kind(f"{what}: {error.strerror or error}")


def is_shortage(error: Exception) -> bool:
    """Whether something failed for want of a resource."""
    of_system = isinstance(error, OSError) and error.errno in _WANT_OF_RESOURCE
    return of_system or isinstance(error, Transient | MemoryError)


def is_short_of_descriptors() -> bool:
    """Whether no file can be opened now: then what libraries find missing may well be there."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    return False


def import_failure(what: str, error: Exception, remedy: str = "") -> Unavailable:
    """Why a module cannot be imported, as the exception to raise.

    Only a module that is not installed stays away; any other failure is worth another try.
    """
    kind = Unavailable if isinstance(error, ModuleNotFoundError) else Transient
    return kind(f"{what} cannot be imported: {error}" + (f"; {remedy}" if remedy else ""))


class Clock:
    """Time that never jumps, for intervals, and wall time, for timestamps."""

    # These clocks, Linux's and macOS', also count a laptop's sleep: timestamps stay right after it.
    _CLOCK_ID: int | None = getattr(
        time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None)
    )

    def now_s(self) -> float:
        """Seconds on a clock that never goes back."""
        if self._CLOCK_ID is None:
            return time.monotonic()
        return time.clock_gettime(self._CLOCK_ID)

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Host:
    """One machine, as seen by one process.

    Attributes:
        root: Where `/proc`, `/sys` and `/etc` are found; `/` on the machine itself.
        system: `Linux`, `Darwin` or `Windows`, as `platform.system()` names them.
        environ: The process's environment.
        clock: Time source of samples.
        pid: The process whose limits and tree are read; this one where None.
    """

    root: Path = Path("/")
    system: str = field(default_factory=platform.system)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=Clock)
    pid: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())  # paths are joined to it twice

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
        """Read a small file as `read_text` does, stripped; empty where it is not there.

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

        The kernel answers for devices, too, that a control group keeps from a container. The
        device is not opened, which might wake it up.
        """
        return os.access(self.root / path, os.R_OK | os.W_OK)

    def has_command(self, name: str) -> bool:
        """Whether there is such a command on the PATH."""
        return find_command(name) is not None

    def run(self, command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command and return what it prints, stderr left out.

        However the command behaves (hangs, cannot be killed, prints without end), this returns
        or raises within `timeout_s` and a little.

        Raises:
            Unavailable: Not installed, failed, too slow, or its output is too long.
        """
        name = command[0]
        executable = find_command(name)
        if executable is None:
            raise Unavailable(f"{name} is not installed")
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed command found on the user's PATH
                [executable, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                cwd=os.sep,  # this process's may be on a file system that hangs
                start_new_session=True,  # so that its own children end with it
            )
        except OSError as error:
            raise unavailable(name, error) from error
        output = _output_of(process, timeout_s)
        if output is None:
            raise Transient(f"{name} did not answer within {timeout_s:g} s")
        if len(output) > _COMMAND_OUTPUT_BYTES:
            raise Unavailable(f"{name} printed more than {_COMMAND_OUTPUT_BYTES} bytes")
        if process.returncode != 0:
            raise Unavailable(f"{name} failed with exit status {process.returncode}")
        return output.decode("utf-8", errors="replace")

    def stream(self, command: Sequence[str]) -> CommandStream:
        """Start a command that goes on printing; whoever starts it closes it.

        Raises:
            Unavailable: It is not installed, or cannot be started.
        """
        from mlflow_sysmetrics.command_stream import CommandStream  # noqa: PLC0415 - it imports us

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


def decode(content: bytes) -> str:
    """Text of a file, less the NUL bytes that some kernels and lxcfs put after its end."""
    return content.rstrip(b"\0").decode("utf-8", errors="replace")


def find_paths(top: Path, pattern: str) -> list[Path]:
    """The paths below `top` that a pattern such as `hwmon/hwmon*` fits, sorted; none without it.

    Unlike `Path.glob`, which in some versions of Python takes a folder that cannot be listed for
    an empty one.

    Raises:
        Transient: A folder cannot be listed now.
    """
    found = [top]
    for part in pattern.split("/"):
        if "*" in part:
            found = [
                path / name for path in found for name in fnmatch.filter(_names_in(path), part)
            ]
        else:
            found = [path / part for path in found]
    return sorted(path for path in found if os.path.lexists(path))


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted
    except OSError as error:
        reason = unavailable(folder, error)
        if isinstance(reason, Transient):
            raise reason from error
        return []


def find_command(name: str) -> str | None:
    """Where a command is on the PATH; a folder whose file system may hang is asked last."""
    from mlflow_sysmetrics.file_helper import helper_at  # noqa: PLC0415 - it imports us

    last = []
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            helper = helper_at(folder)
        except OSError:
            continue
        if helper is not None:
            last.append((helper, os.path.abspath(folder)))  # noqa: PTH100 - as a string
        elif found := shutil.which(name, path=folder):
            return os.path.abspath(found)  # noqa: PTH100 - as a string
    for helper, folder in last:
        with contextlib.suppress(OSError):
            found = helper.call_within(_FIND_TIMEOUT_S, shutil.which, name, path=folder)
            if found:
                return found
    return None


def _output_of(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """The output, up to one byte over the limit; None where it takes longer than allowed.

    A thread reads, since neither `select()` on a Windows pipe nor a timed read exists.
    """
    assert process.stdout is not None  # noqa: S101 - for the type checker; Popen was given a pipe
    stdout = process.stdout
    chunks: list[bytes] = []

    def read() -> None:
        with stdout:
            chunks.append(stdout.read(_COMMAND_OUTPUT_BYTES + 1))

    reader = threading.Thread(target=read, name="mlflow-sysmetrics-command", daemon=True)
    deadline = time.monotonic() + timeout_s
    try:
        reader.start()
        reader.join(timeout_s)
        if reader.is_alive() or not chunks:
            return None
        if len(chunks[0]) <= _COMMAND_OUTPUT_BYTES:
            process.wait(max(0.0, deadline - time.monotonic()))
        return chunks[0]
    except subprocess.TimeoutExpired:
        return None
    except RuntimeError as error:  # no thread may start at interpreter shutdown (Python 3.12+)
        raise Transient(f"cannot read a command's output: {error}") from error
    finally:
        _end(process)
        if reader.ident is None:
            stdout.close()
        else:
            reader.join(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs of a command; never wait for one that the kernel does not let go."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
