"""NVML, NVIDIA's management library, through `pynvml`: what GPUs there are, and any call on one.

Nothing else touches pynvml, and it is imported when NVML is first opened, not before.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.host import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from mlflow_sysmetrics.host import Host


class NvmlError(Exception):
    """A call failed and may work another time; the message is NVML's own."""


class NotSupportedError(NvmlError):
    """This device, driver or pynvml does not have the call and will not get it."""


class Call(NamedTuple):
    """One question to a device.

    Attributes:
        function: Name of the function in pynvml; it takes the device's handle first.
        arguments: What it takes after the handle.
    """

    function: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: Its number, as `nvidia-smi` shows it.
        name: Model; `NVIDIA GPU` where the driver does not tell.
        memory_bytes: Memory size; None where it has none of its own (GB10, Jetson).
        uuid: `GPU-…`; None where the driver does not tell.
    """

    index: int
    name: str
    memory_bytes: int | None
    uuid: str | None


@dataclass(frozen=True)
class Inventory:
    """The driver and its GPUs.

    Attributes:
        driver: Version of the driver, `560.35.03`; None where it is not told.
        cuda: Newest CUDA version that the driver supports, `12.6`; None where it is not told.
        devices: All GPUs that the driver shows this process, by index.
    """

    driver: str | None
    cuda: str | None
    devices: tuple[Device, ...]


class _Code(IntEnum):
    """The NVML return codes that are told apart. Their numbers are part of NVML's ABI."""

    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    LIB_RM_VERSION_MISMATCH = 18
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    UNKNOWN = 999


_NEVER_SUPPORTED = frozenset(
    (
        _Code.NOT_SUPPORTED,
        _Code.FUNCTION_NOT_FOUND,
        _Code.ARGUMENT_VERSION_MISMATCH,
        _Code.DEPRECATED,
    )
)

_WHY_NOT_OPEN: dict[int, str] = {
    _Code.NO_PERMISSION: "no permission to use the NVIDIA devices (/dev/nvidia*)",
    _Code.DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded; `dmesg` may tell why",
    _Code.LIBRARY_NOT_FOUND: "no NVIDIA driver library (libnvidia-ml) on this host",
    _Code.FUNCTION_NOT_FOUND: "the NVIDIA driver is too old for this nvidia-ml-py",
    _Code.LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA library and the loaded driver differ in version; reboot after a driver update"
    ),
    _Code.UNKNOWN: (
        "NVML fails with an unknown error; a container may have lost its GPU devices: restart it"
    ),
}


def open_nvml(host: Host) -> Nvml:
    """Open NVML.

    Raises:
        Unavailable: No pynvml, no driver, no GPU, or no way to them; the message says which.
    """
    nvml = Nvml(host.load_nvml())
    nvml.ensure_open()
    return nvml


class Nvml:
    """NVML as this process has it open.

    NVML counts its users: it is up from the first `nvmlInit` of a process to the last
    `nvmlShutdown`. An `Nvml` makes one of each, so it never ends NVML for other code here.

    Args:
        pynvml: The module, or a fake of it.
    """

    def __init__(self, pynvml: ModuleType) -> None:
        if not hasattr(pynvml, "nvmlInit"):
            raise Unavailable(f"{pynvml!r} is not the pynvml of nvidia-ml-py")
        self._pynvml = pynvml
        self._owner_pid: int | None = None  # the process whose count of users we are part of
        self._handles: dict[int, Any] = {}
        self.device_count = 0

    def ensure_open(self) -> None:
        """Open NVML unless this process has it open.

        To be called before each use: in a forked child the handle is its parent's, and other
        code may have shut NVML down once too often.

        Raises:
            Unavailable: It cannot be opened; the message says why.
        """
        pid = os.getpid()
        if pid == self._owner_pid:
            return
        try:
            self._pynvml.nvmlInit()
            self._owner_pid = pid
            self._handles.clear()
            self.device_count = self._pynvml.nvmlDeviceGetCount()
        except self._pynvml.NVMLError as error:
            self.close()
            reason = _WHY_NOT_OPEN.get(error.value, f"NVML cannot be opened: {error}")
            raise Unavailable(reason) from error
        if not self.device_count:
            self.close()
            raise Unavailable("the NVIDIA driver shows no GPU to this process")

    def close(self) -> None:
        """Let go of NVML, if this process holds it; may be called twice."""
        owner_pid, self._owner_pid = self._owner_pid, None
        if owner_pid == os.getpid():
            with contextlib.suppress(self._pynvml.NVMLError):  # then there is nothing to let go
                self._pynvml.nvmlShutdown()

    def inventory(self) -> Inventory:
        """The driver and its GPUs; what NVML does not tell is None.

        Raises:
            Unavailable: NVML had to be opened again and could not be.
        """
        self.ensure_open()
        cuda = _told(self._ask, "nvmlSystemGetCudaDriverVersion_v2")  # 12060 is 12.6
        return Inventory(
            driver=_text(_told(self._ask, "nvmlSystemGetDriverVersion")),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            devices=tuple(self._device(index) for index in range(self.device_count)),
        )

    def call(self, call: Call, device: int) -> Any:  # noqa: ANN401 - an int or a struct of pynvml
        """Ask a device; `ensure_open` comes first.

        Raises:
            NotSupportedError: It does not have this and will not get it.
            NvmlError: It does not answer now.
        """
        return self._ask(call.function, self._handle(device), *call.arguments)

    def _device(self, index: int) -> Device:
        memory = _told(self.call, Call("nvmlDeviceGetMemoryInfo"), index)
        return Device(
            index=index,
            name=_text(_told(self.call, Call("nvmlDeviceGetName"), index)) or "NVIDIA GPU",
            memory_bytes=memory.total or None if memory is not None else None,
            uuid=_text(_told(self.call, Call("nvmlDeviceGetUUID"), index)),
        )

    def _handle(self, device: int) -> Any:  # noqa: ANN401 - opaque, a pointer of the driver's
        handle = self._handles.get(device)
        if handle is None:
            handle = self._handles[device] = self._ask("nvmlDeviceGetHandleByIndex", device)
        return handle

    def _ask(self, function: str, *arguments: object) -> Any:  # noqa: ANN401 - as pynvml has it
        ask = getattr(self._pynvml, function, None)
        if ask is None:
            raise NotSupportedError(f"this pynvml has no {function}")
        try:
            return ask(*arguments)
        except self._pynvml.NVMLError as error:
            if error.value == _Code.UNINITIALIZED:  # someone else's doing: open it again
                self._owner_pid = None
            kind = NotSupportedError if error.value in _NEVER_SUPPORTED else NvmlError
            raise kind(str(error)) from error
        except UnicodeDecodeError as error:  # a name from a damaged infoROM
            raise NvmlError(f"{function} returned what is no text") from error


def _told(ask: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - as pynvml has it
    """What `ask` returns; None where NVML does not tell."""
    try:
        return ask(*arguments)
    except NvmlError:
        return None


def _text(told: str | bytes | None) -> str | None:
    """Text as str, which old pynvml gives as bytes; None where there is none."""
    return (told.decode(errors="replace") if isinstance(told, bytes) else told) or None
