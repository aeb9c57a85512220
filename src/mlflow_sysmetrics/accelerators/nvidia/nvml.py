"""NVML, NVIDIA's management library, through `pynvml`: any call, on any GPU.

Nothing else touches pynvml, and it is imported when NVML is first opened, not before.
"""

from __future__ import annotations

import contextlib
import os
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.host.errors import Absent, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class NvmlError(Exception):
    """A call failed and may work another time; the message is NVML's own.

    Attributes:
        code: NVML's return code; None where NVML was not called.
    """

    code: int | None = None


class NotSupportedError(NvmlError):
    """This device, driver or pynvml does not have the call and will not get it."""


class NoDataError(NvmlError):
    """The device is healthy, but has no data now, or none for this user."""


class NothingFoundError(NoDataError):
    """What was asked for is an empty list."""


class Call(NamedTuple):
    """One question to a device.

    Attributes:
        function: Name of the function in pynvml; it takes the device's handle first.
        arguments: What it takes after the handle.
        lasts_s: How long an answer may be taken to hold.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    lasts_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


class Field(NamedTuple):
    """One value of a device that NVML gives together with others, in one call.

    Attributes:
        number: The field's, `NVML_FI_DEV_…`; as part of NVML's ABI it does not change.
        scope: Sub-unit of the device, for fields that need one.
    """

    number: int
    scope: int = 0

    def __str__(self) -> str:
        return f"field {self.number}"


class Code(IntEnum):
    """The NVML return codes that are distinguished. Their numbers are part of NVML's ABI."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_POWER = 8
    DRIVER_NOT_LOADED = 9
    IRQ_ISSUE = 11
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    NO_DATA = 21
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    NOT_READY = 27
    UNKNOWN = 999


_NEVER_SUPPORTED = frozenset(
    (
        Code.NOT_SUPPORTED,
        Code.FUNCTION_NOT_FOUND,
        Code.ARGUMENT_VERSION_MISMATCH,
        Code.DEPRECATED,
    )
)

_NO_DATA = frozenset((Code.NO_PERMISSION, Code.NO_DATA, Code.NOT_READY))
_NOTHING_FOUND = frozenset((Code.NOT_FOUND, Code.SUCCESS))  # pynvml raises success, too

_VALUES = dict(enumerate(("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")))
"""The member of a field value's union that is set, by the number of the value's type."""

WHY_NOT_OPEN: dict[int, str] = {
    Code.NO_PERMISSION: (
        "no permission to use the NVIDIA devices (/dev/nvidia*); join the group that may use them"
    ),
    Code.DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded; dmesg may show why",
    Code.LIBRARY_NOT_FOUND: (
        "no NVIDIA driver library (libnvidia-ml); a container gets it with the GPUs "
        "(docker run --gpus all)"
    ),
    Code.FUNCTION_NOT_FOUND: (
        "the NVIDIA driver is too old for this nvidia-ml-py; update the driver"
    ),
    Code.LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA library and the loaded driver differ in version; reboot after a driver update"
    ),
    Code.UNKNOWN: (
        "NVML fails with an unknown error; a container may have lost its GPU devices: restart it"
    ),
}

_NEVER_OPEN = _NEVER_SUPPORTED | WHY_NOT_OPEN.keys() - {Code.UNKNOWN}

_WITHOUT_HARDWARE = frozenset((Code.DRIVER_NOT_LOADED, Code.LIBRARY_NOT_FOUND))
"""What a host without a GPU says, too; all else comes from a driver that is loaded."""

_WHAT_TO_DO: dict[int, str] = {
    Code.INSUFFICIENT_POWER: "its power cables are not attached",
    Code.IRQ_ISSUE: "the kernel has an interrupt issue with it; dmesg may show why",
    Code.GPU_IS_LOST: "it fell off the bus; reset it or reboot the host",
    Code.RESET_REQUIRED: "reset it (nvidia-smi --gpu-reset) or reboot the host",
}


def _kind_of(code: int) -> type[Unavailable]:
    """Why NVML cannot be opened: no GPU, never, or not now."""
    if code in _WITHOUT_HARDWARE:
        return Absent
    return Unavailable if code in _NEVER_OPEN else Transient


class Nvml:
    """NVML as this process has it open.

    NVML counts its users: it is up from the first `nvmlInit` of a process to the last
    `nvmlShutdown`. An `Nvml` makes one of each, so it never ends NVML for other code here.

    Attributes:
        pynvml: The module, for its structs.
        device_count: How many GPUs the driver shows this process.
        sessions: How often NVML was opened; what an earlier session gave is void.
    """

    def __init__(self, pynvml: ModuleType) -> None:
        if not hasattr(pynvml, "nvmlInit"):
            raise Unavailable(
                f"{pynvml!r} is not the pynvml of nvidia-ml-py; uninstall it, then "
                "pip install --force-reinstall nvidia-ml-py"
            )
        self.pynvml = pynvml
        self.device_count = 0
        self.sessions = 0
        self._owner_pid: int | None = None  # the process that opened it
        self._handles: dict[Address, Any] = {}
        self._uuids: dict[Address, Any] = {}
        # What some of its functions raise where the driver does not have them: no NVMLError.
        self._mismatch = getattr(pynvml, "NVMLLibraryMismatchError", pynvml.NVMLError)

    def ensure_open(self) -> None:
        """Open NVML unless this process has it open.

        To be called before each use: in a forked child the handle is its parent's, and other
        code may have shut NVML down once too often.

        Raises:
            Absent: There is no driver, so perhaps no GPU.
            Unavailable: It cannot be opened; the message says why.
        """
        pid = os.getpid()
        if pid == self._owner_pid:
            return
        try:
            self.pynvml.nvmlInit()
            self._owner_pid = pid
            self._handles.clear()
            self.sessions += 1
            self.device_count = self.pynvml.nvmlDeviceGetCount()
        except self.pynvml.NVMLError as error:
            self.close()
            reason = WHY_NOT_OPEN.get(error.value, f"NVML cannot be opened: {_failure(error)}")
            raise _kind_of(error.value)(reason) from error
        if not self.device_count:
            self.close()
            raise Unavailable(
                "the NVIDIA driver shows no GPU to this process; a container must be given them "
                "(docker run --gpus all)"
            )

    def close(self) -> None:
        """Close NVML, if this process has it open; may be called twice."""
        owner_pid, self._owner_pid = self._owner_pid, None
        if owner_pid == os.getpid():
            with contextlib.suppress(self.pynvml.NVMLError):  # then there is nothing to close
                self.pynvml.nvmlShutdown()

    def ask(self, function: str, *arguments: object) -> Any:  # noqa: ANN401 - as pynvml has it
        """Call a function of pynvml; `ensure_open` comes first.

        Raises:
            NotSupportedError: This driver or pynvml does not have it.
            NoDataError: It has no data now.
            NvmlError: It fails now.
        """
        ask = getattr(self.pynvml, function, None)
        if ask is None:
            raise NotSupportedError(f"this pynvml has no {function}")
        try:
            return ask(*arguments)
        except self.pynvml.NVMLError as error:
            if error.value == Code.UNINITIALIZED:  # someone else's doing: open it again
                self._owner_pid = None
            raise _failure(error) from error
        except self._mismatch as error:
            raise NotSupportedError(f"the driver is too old for {function}") from error
        except UnicodeDecodeError as error:  # a name from a damaged infoROM
            raise NvmlError(f"{function} returned what is no text") from error

    def call(self, call: Call, device: Address) -> Any:  # noqa: ANN401 - an int or a struct
        """Ask a device; raises as `ask` does."""
        handle = self.handle(device)
        try:
            return self.ask(call.function, handle, *call.arguments)
        except (NotSupportedError, NoDataError):
            raise
        except NvmlError:
            self._handles.pop(device, None)  # after a reset of the device there is a new one
            raise

    def fields(self, fields: Sequence[Field], device: Address) -> list[float | NvmlError]:
        """Ask a device for several values in one call; raises as `ask` does.

        Returns:
            For each field its value, or why there is none.
        """
        asked = [tuple(field) for field in fields]
        values = self.call(Call("nvmlDeviceGetFieldValues", (asked,)), device)
        return [self._field_value(value) for value in values]

    def handle(self, device: Address) -> Any:  # noqa: ANN401 - opaque, a pointer of the driver's
        """NVML's handle of a device, which other calls take; raises as `ask` does."""
        handle = self._handles.get(device)
        if handle is None:
            handle = self._find(device)
            # That of an instance is not kept: once the instance is gone, another may get it.
            if device.instance is None:
                self._handles[device] = handle
        return handle

    def _find(self, device: Address) -> Any:  # noqa: ANN401 - as above
        uuid = self._uuids.get(device)
        if uuid is not None:  # indices shift where a GPU falls off the bus, or is cut up anew
            try:
                return self.ask("nvmlDeviceGetHandleByUUID", uuid)
            except NothingFoundError as error:
                raise NvmlError("it is no longer there") from error
        if device.instance is None:
            handle = self.ask("nvmlDeviceGetHandleByIndex", device.gpu)
        else:
            gpu = self.handle(Address(device.gpu))
            handle = self.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, device.instance)
        if device not in self._uuids:
            self._uuids[device] = None  # so it stays where the driver has none
            with contextlib.suppress(NvmlError):
                self._uuids[device] = self.ask("nvmlDeviceGetUUID", handle)
        return handle

    def _field_value(self, value: Any) -> float | NvmlError:  # noqa: ANN401 - a struct of pynvml
        code = value.nvmlReturn
        if code == Code.SUCCESS:
            number: float | None = getattr(value.value, _VALUES.get(value.valueType, ""), None)
            if number is None:
                return NotSupportedError("the field is of a type that this pynvml does not know")
            return number
        if code == Code.INVALID_ARGUMENT:  # a field newer than the driver
            return NotSupportedError("the driver does not know the field")
        return _failure(self.pynvml.NVMLError(code))


def _failure(error: Any) -> NvmlError:  # noqa: ANN401 - an NVMLError of pynvml, imported late
    advice = _WHAT_TO_DO.get(error.value)
    failure = _kind_of_failure(error.value)(f"{error}: {advice}" if advice else str(error))
    failure.code = error.value
    return failure


def _kind_of_failure(code: int) -> type[NvmlError]:
    if code in _NEVER_SUPPORTED:
        return NotSupportedError
    if code in _NOTHING_FOUND:
        return NothingFoundError
    return NoDataError if code in _NO_DATA else NvmlError
