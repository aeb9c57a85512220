from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import ERROR_CODES, consumer_card, error, h100, memory
from mlflow_sysmetrics.host import Host, Unavailable
from mlflow_sysmetrics.sources.nvml import (
    Call,
    Device,
    Inventory,
    NotSupportedError,
    NvmlError,
    _Code,
    open_nvml,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

_PID = os.getpid()


def test_importing_the_module_does_not_import_pynvml() -> None:
    code = "import mlflow_sysmetrics.sources.nvml, sys; sys.exit('pynvml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_codes_told_apart_are_those_of_nvml() -> None:
    assert {code.name: code.value for code in _Code}.items() <= ERROR_CODES.items()


class TestInventory:
    def test_tells_driver_and_devices(self, install_nvml: Install) -> None:
        install_nvml(h100(0), consumer_card())

        inventory = open_nvml(Host()).inventory()

        assert inventory == Inventory(
            driver="560.35.03",
            cuda="12.6",
            devices=(
                Device(
                    index=0,
                    name="NVIDIA H100 80GB HBM3",
                    memory_bytes=80_000_000_000,
                    uuid="GPU-00000000-0000-0000-0000-000000000000",
                ),
                Device(
                    index=1,
                    name="NVIDIA GeForce GT 1030",
                    memory_bytes=2_000_000_000,
                    uuid="GPU-00000000-0000-0000-0000-000000000000",
                ),
            ),
        )

    def test_takes_bytes_where_an_old_pynvml_gives_them(self, install_nvml: Install) -> None:
        gpu = h100()
        gpu.answers |= {"nvmlDeviceGetName": b"Tesla K80", "nvmlDeviceGetUUID": b"GPU-1"}
        install_nvml(gpu).answers["nvmlSystemGetDriverVersion"] = b"418.87"

        inventory = open_nvml(Host()).inventory()

        assert inventory.driver == "418.87"
        assert (inventory.devices[0].name, inventory.devices[0].uuid) == ("Tesla K80", "GPU-1")

    @pytest.mark.parametrize(
        ("version", "cuda"), [(9020, "9.2"), (11080, "11.8"), (13000, "13.0"), (0, None)]
    )
    def test_cuda_version(self, install_nvml: Install, version: int, cuda: str | None) -> None:
        install_nvml(h100()).answers["nvmlSystemGetCudaDriverVersion_v2"] = version

        assert open_nvml(Host()).inventory().cuda == cuda

    def test_memory_of_no_bytes_is_not_told(self, install_nvml: Install) -> None:
        gpu = h100()
        gpu.answers["nvmlDeviceGetMemoryInfo"] = memory(used=0, total=0)
        install_nvml(gpu)

        assert open_nvml(Host()).inventory().devices[0].memory_bytes is None

    def test_a_name_that_is_no_text_is_not_told(self, install_nvml: Install) -> None:
        gpu = h100()
        gpu.answers["nvmlDeviceGetName"] = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte")
        install_nvml(gpu)

        assert open_nvml(Host()).inventory().devices[0].name == "NVIDIA GPU"


class TestUnavailable:
    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            ("LIBRARY_NOT_FOUND", "no NVIDIA driver library"),
            ("DRIVER_NOT_LOADED", "driver is not loaded"),
            ("LIB_RM_VERSION_MISMATCH", "differ in version"),
            ("NO_PERMISSION", "no permission"),
            ("FUNCTION_NOT_FOUND", "driver is too old"),
            ("UNKNOWN", "unknown error"),
            ("GPU_IS_LOST", "cannot be opened: GPU is lost"),
        ],
    )
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
        nvml.inventory()
        mocker.patch("os.getpid", return_value=_PID + 1)

        nvml.inventory()
        assert module.users == {_PID: 1, _PID + 1: 1}
        assert module.asked("nvmlDeviceGetHandleByIndex") == 2

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
            nvml.call(Call("nvmlDeviceGetPowerUsage"), 0)

        nvml.ensure_open()

        assert nvml.call(Call("nvmlDeviceGetPowerUsage"), 0) == 350_000


class TestCall:
    def test_passes_arguments(self, install_nvml: Install, mocker: MockerFixture) -> None:
        module = install_nvml(h100())
        module.nvmlDeviceGetTemperature = temperature = mocker.Mock(return_value=61)

        assert open_nvml(Host()).call(Call("nvmlDeviceGetTemperature", (0,)), 0) == 61
        temperature.assert_called_once_with(module.gpus[0], 0)

    @pytest.mark.parametrize(
        "failure",
        ["NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED"],
    )
    def test_what_a_device_never_has(self, install_nvml: Install, failure: str) -> None:
        gpu = h100()
        gpu.fails(failure, ["nvmlDeviceGetPowerUsage"])
        install_nvml(gpu)

        with pytest.raises(NotSupportedError):
            open_nvml(Host()).call(Call("nvmlDeviceGetPowerUsage"), 0)

    def test_a_function_that_pynvml_lacks(self, install_nvml: Install) -> None:
        install_nvml(h100())

        with pytest.raises(NotSupportedError, match="has no nvmlDeviceGetFuture"):
            open_nvml(Host()).call(Call("nvmlDeviceGetFuture"), 0)
