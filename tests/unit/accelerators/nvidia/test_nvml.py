from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pynvml
import pytest

from fakes.fake_nvml import DESCRIPTIONS, ERROR_CODES, error, h100, load_gpu
from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.nvml import (
    Call,
    Code,
    Field,
    NoDataError,
    NothingFoundError,
    NotSupportedError,
    NvmlError,
)
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

_PID = os.getpid()
_POWER = Call("nvmlDeviceGetPowerUsage")
_GPU = Address(0)

INIT_FAILURES = json.loads((DESCRIPTIONS / "init-failures.json").read_text())


def test_importing_the_module_does_not_import_pynvml() -> None:
    code = (
        "import mlflow_sysmetrics.accelerators.nvidia.nvml, sys; sys.exit('pynvml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_codes_distinguished_are_those_of_nvml() -> None:
    codes = {code.name: code.value for code in Code if code is not Code.SUCCESS}

    assert codes.items() <= ERROR_CODES.items()


class TestUnavailable:
    @pytest.mark.parametrize(("failure", "reason"), INIT_FAILURES.items())
    def test_says_why_init_failed(self, install_nvml: Install, failure: str, reason: str) -> None:
        install_nvml(h100()).answers["nvmlInit"] = error(failure)

        with pytest.raises(Unavailable, match=reason):
            open_nvml(Host())

    def test_no_gpu_leaves_nvml_closed(self, install_nvml: Install) -> None:
        nvml = install_nvml()

        with pytest.raises(Unavailable, match="shows no GPU"):
            open_nvml(Host())

        assert nvml.users[_PID] == 0

    @pytest.mark.parametrize("failure", [ImportError("No module named 'pynvml'"), OSError("bad")])
    def test_pynvml_that_cannot_be_imported(
        self, mocker: MockerFixture, failure: Exception
    ) -> None:
        mocker.patch.object(importlib, "import_module", side_effect=failure)

        with pytest.raises(Unavailable, match=f"cannot be imported: {failure}"):
            open_nvml(Host())

    def test_another_module_of_that_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))

        with pytest.raises(Unavailable, match="is not the pynvml of nvidia-ml-py"):
            open_nvml(Host())


class TestHandle:
    def test_other_users_of_nvml_keep_it(self, install_nvml: Install) -> None:
        module = install_nvml(h100())
        module.nvmlInit()
        nvml = open_nvml(Host())

        nvml.close()
        nvml.close()

        assert module.users[_PID] == 1

    def test_opening_again_takes_no_second_count(self, install_nvml: Install) -> None:
        module = install_nvml(h100())
        nvml = open_nvml(Host())

        nvml.ensure_open()

        assert module.users[_PID] == 1

    def test_a_forked_child_opens_its_own(
        self, install_nvml: Install, mocker: MockerFixture
    ) -> None:
        module = install_nvml(h100())
        nvml = open_nvml(Host())
        nvml.call(_POWER, _GPU)
        mocker.patch("os.getpid", return_value=_PID + 1)

        nvml.ensure_open()
        nvml.call(_POWER, _GPU)
        assert module.users == {_PID: 1, _PID + 1: 1}
        assert module.asked("nvmlDeviceGetHandleByUUID") == 1

        nvml.close()
        assert module.users == {_PID: 1, _PID + 1: 0}

    def test_a_forked_child_leaves_its_parents_alone(
        self, install_nvml: Install, mocker: MockerFixture
    ) -> None:
        module = install_nvml(h100())
        nvml = open_nvml(Host())
        mocker.patch("os.getpid", return_value=_PID + 1)

        nvml.close()

        assert module.asked("nvmlShutdown") == 0

    def test_opens_again_where_other_code_shut_nvml_down(self, install_nvml: Install) -> None:
        module = install_nvml(h100())
        nvml = open_nvml(Host())
        module.nvmlShutdown()
        with pytest.raises(NvmlError, match="Uninitialized"):
            nvml.call(_POWER, _GPU)

        nvml.ensure_open()

        assert nvml.call(_POWER, _GPU) == 350_000

    def test_a_gpu_is_found_again_when_indices_have_shifted(self, install_nvml: Install) -> None:
        first, second = h100(0), h100(1)
        second.answers["nvmlDeviceGetPowerUsage"] = 123_000
        module = install_nvml(first, second)
        nvml = open_nvml(Host())
        nvml.call(_POWER, Address(1))
        nvml.close()
        module.gpus = [second]

        nvml.ensure_open()

        assert nvml.call(_POWER, Address(1)) == 123_000

    def test_the_handle_is_taken_anew_after_a_failure(self, install_nvml: Install) -> None:
        gpu = h100()
        module = install_nvml(gpu)
        nvml = open_nvml(Host())
        nvml.call(_POWER, _GPU)
        gpu.fails("RESET_REQUIRED", ["nvmlDeviceGetPowerUsage"])

        for _ in range(2):
            with pytest.raises(NvmlError, match="requires restart"):
                nvml.call(_POWER, _GPU)

        assert module.calls.count(("nvmlDeviceGetHandleByUUID", None)) == 1

    def test_a_mig_instance_is_reached_through_its_gpu(self, install_nvml: Install) -> None:
        install_nvml(load_gpu("h100-mig"))
        nvml = open_nvml(Host())

        memory = nvml.call(Call("nvmlDeviceGetMemoryInfo"), Address(0, 1))

        assert memory.total == 40_000_000_000
        with pytest.raises(NothingFoundError):
            nvml.handle(Address(0, 2))

    def test_a_mig_instance_that_is_gone_is_not_taken_for_another(
        self, install_nvml: Install
    ) -> None:
        gpu = load_gpu("h100-mig")
        install_nvml(gpu)
        nvml = open_nvml(Host())
        memory = Call("nvmlDeviceGetMemoryInfo")
        assert nvml.call(memory, Address(0, 1)).total == 40_000_000_000

        gpu.instances.reverse()
        assert nvml.call(memory, Address(0, 1)).total == 40_000_000_000
        gpu.instances = [load_gpu("h100-mig").instances[0]] * 2
        with pytest.raises(NvmlError, match="no longer there"):
            nvml.call(memory, Address(0, 1))


class TestCall:
    def test_passes_arguments(self, install_nvml: Install) -> None:
        install_nvml(h100())
        nvml = open_nvml(Host())

        assert nvml.call(Call("nvmlDeviceGetClockInfo", (1,)), _GPU) == 1980
        assert nvml.call(Call("nvmlDeviceGetClockInfo", (2,)), _GPU) == 2619

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            ("NOT_SUPPORTED", NotSupportedError),
            ("FUNCTION_NOT_FOUND", NotSupportedError),
            ("ARGUMENT_VERSION_MISMATCH", NotSupportedError),
            ("DEPRECATED", NotSupportedError),
            ("NO_PERMISSION", NoDataError),
            ("NO_DATA", NoDataError),
            ("NOT_READY", NoDataError),
            ("NOT_FOUND", NothingFoundError),
            ("GPU_IS_LOST", NvmlError),
            ("TIMEOUT", NvmlError),
            ("UNKNOWN", NvmlError),
        ],
    )
    def test_failures_are_distinguished(
        self, install_nvml: Install, failure: str, kind: type[Exception]
    ) -> None:
        gpu = h100()
        gpu.fails(failure, ["nvmlDeviceGetPowerUsage"])
        install_nvml(gpu)

        with pytest.raises(NvmlError) as raised:
            open_nvml(Host()).call(_POWER, _GPU)

        assert raised.type is kind

    def test_a_function_that_pynvml_lacks(self, install_nvml: Install) -> None:
        install_nvml(h100())

        with pytest.raises(NotSupportedError, match="has no nvmlDeviceGetFuture"):
            open_nvml(Host()).call(Call("nvmlDeviceGetFuture"), _GPU)

    def test_what_pynvml_raises_where_the_driver_is_too_old(self, install_nvml: Install) -> None:
        module = install_nvml(load_gpu("k80"))
        processes = Call("nvmlDeviceGetComputeRunningProcesses")
        nvml = open_nvml(Host())
        with pytest.raises(module.NVMLLibraryMismatchError):
            module.nvmlDeviceGetComputeRunningProcesses(module.gpus[0])

        with pytest.raises(NotSupportedError, match="too old for nvmlDeviceGetComputeRunning"):
            nvml.call(processes, _GPU)


class TestFields:
    def test_each_field_has_its_value_or_its_failure(self, install_nvml: Install) -> None:
        gpu = h100()
        gpu.fields |= {"82": "NOT_SUPPORTED", "75": "GPU_IS_LOST"}
        module = install_nvml(gpu)
        nvml = open_nvml(Host())
        asked = [Field(83), Field(82), Field(75), Field(9999), Field(138, 0xFFFFFFFF)]

        energy, memory_temperature, thermal, unknown, nvlink = nvml.fields(asked, _GPU)

        assert (energy, nvlink) == (9_000_000, 1_000_000)
        assert isinstance(memory_temperature, NotSupportedError)
        assert type(thermal) is NvmlError
        assert isinstance(unknown, NotSupportedError)
        assert module.asked("nvmlDeviceGetFieldValues", 0) == 1

    @pytest.mark.parametrize(
        ("value_type", "member", "value"),
        [
            (pynvml.NVML_VALUE_TYPE_DOUBLE, "dVal", 1.5),
            (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, "uiVal", 4_000_000_000),
            (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, "ulVal", 5),
            (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, "ullVal", 1 << 63),
            (pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, "sllVal", -5),
        ],
    )
    def test_a_value_is_read_by_its_type(
        self,
        install_nvml: Install,
        mocker: MockerFixture,
        value_type: int,
        member: str,
        value: float,
    ) -> None:
        told = pynvml.c_nvmlFieldValue_t(valueType=value_type)
        setattr(told.value, member, value)
        nvml = install_nvml(h100())
        mocker.patch.object(nvml, "nvmlDeviceGetFieldValues", return_value=[told], create=True)

        assert open_nvml(Host()).fields([Field(1)], _GPU) == [value]

    def test_a_type_that_this_pynvml_does_not_know(
        self, install_nvml: Install, mocker: MockerFixture
    ) -> None:
        told = pynvml.c_nvmlFieldValue_t(valueType=99)
        nvml = install_nvml(h100())
        mocker.patch.object(nvml, "nvmlDeviceGetFieldValues", return_value=[told], create=True)

        (value,) = open_nvml(Host()).fields([Field(1)], _GPU)

        assert isinstance(value, NotSupportedError)
