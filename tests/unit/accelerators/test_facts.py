from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import error, h100
from mlflow_sysmetrics.accelerators import facts as gpu_module
from mlflow_sysmetrics.accelerators.facts import (
    GpusNotToldError,
    describe_models,
    gpu_tags,
    read_gpu,
    read_gpu_metrics,
)
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from unittest.mock import MagicMock

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

COMMANDS = Path(__file__).parents[2] / "data/commands"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def open_nvml(mocker: MockerFixture) -> MagicMock:
    """NVML, absent unless a test says otherwise."""
    return mocker.patch(
        "mlflow_sysmetrics.accelerators.facts.open_nvml", side_effect=Absent("no libnvidia-ml")
    )


def test_alike_gpus_are_counted_and_mixed_ones_listed_in_order() -> None:
    assert describe_models(["Tesla T4"]) == "Tesla T4"
    assert describe_models(["Tesla T4"] * 8) == "8 x Tesla T4"
    assert describe_models(["A100", "Tesla T4", "A100"]) == "2 x A100, Tesla T4"


def test_what_an_inventory_does_not_tell_stays_empty() -> None:
    devices = (Device(0, "NVIDIA H100", 85_520_809_984, None), Device(1, "GB10", None, None))

    tags = gpu_tags(Inventory(driver=None, cuda=None, devices=devices))

    assert {key for key, value in tags.items() if value} == {"sys.gpu", "sys.gpu_count"}


def test_nvml_is_asked_first_and_let_go(
    open_nvml: MagicMock, bin_folder: Path, tmp_path: Path, mocker: MockerFixture
) -> None:
    _install(bin_folder, "nvidia-smi", "echo garbage")
    open_nvml.side_effect = None
    nvml = open_nvml.return_value
    inventory = Inventory("560.35", "12.6", (Device(0, "T4", 10**9, None),))
    mocker.patch("mlflow_sysmetrics.accelerators.facts.read_inventory", return_value=inventory)

    assert read_gpu(Host(root=tmp_path, system="Linux"))["sys.gpu"] == "T4"
    nvml.close.assert_called_once_with()


def test_nvml_is_let_go_when_it_fails(
    open_nvml: MagicMock, tmp_path: Path, mocker: MockerFixture
) -> None:
    open_nvml.side_effect = None
    nvml = open_nvml.return_value
    mocker.patch(
        "mlflow_sysmetrics.accelerators.facts.read_inventory", side_effect=ZeroDivisionError
    )

    with pytest.raises(ZeroDivisionError):
        read_gpu(Host(root=tmp_path, system="Linux"))
    nvml.close.assert_called_once_with()


@pytest.mark.usefixtures("open_nvml")
def test_nvidia_smi_answers_in_place_of_nvml(bin_folder: Path, tmp_path: Path) -> None:
    _install_printing(bin_folder, "nvidia-smi", "nvidia-smi-8xh100.csv")

    assert read_gpu(Host(root=tmp_path, system="Linux")) == {
        "sys.gpu": "8 x NVIDIA H100 80GB HBM3",
        "sys.gpu_count": "8",
        "sys.gpu_memory_gb": "684.17",
        "sys.gpu_driver": "560.35.03",
        "sys.cuda": "",
        "sys.gpu_devices": "",
    }


@pytest.mark.usefixtures("open_nvml", "bin_folder")
def test_a_linux_host_with_neither_library_nor_tool_has_none(tmp_path: Path) -> None:
    assert read_gpu(Host(root=tmp_path, system="Linux")) == {"sys.gpu": "None"}


@pytest.mark.usefixtures("open_nvml", "bin_folder")
def test_a_device_file_without_a_way_to_ask_is_no_none(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()

    with pytest.raises(Unavailable, match="no libnvidia-ml"):
        read_gpu(Host(root=tmp_path, system="Linux"))


@pytest.mark.usefixtures("open_nvml")
@pytest.mark.parametrize("exit_status", [0, 6])
def test_no_devices_is_none_whatever_the_exit_status(
    exit_status: int, bin_folder: Path, tmp_path: Path
) -> None:
    _install_printing(bin_folder, "nvidia-smi", "nvidia-smi-none.txt", exit_status)

    assert read_gpu(Host(root=tmp_path, system="Linux")) == {"sys.gpu": "None"}


@pytest.mark.usefixtures("open_nvml")
def test_a_failing_nvidia_smi_tells_nothing(bin_folder: Path, tmp_path: Path) -> None:
    _install_printing(bin_folder, "nvidia-smi", "nvidia-smi-no-driver.txt", exit_status=9)

    with pytest.raises(GpusNotToldError, match="nvidia-smi failed with exit status 9"):
        read_gpu(Host(root=tmp_path, system="Linux"))


@pytest.mark.usefixtures("open_nvml")
def test_a_garbage_printing_nvidia_smi_tells_nothing(bin_folder: Path, tmp_path: Path) -> None:
    _install(bin_folder, "nvidia-smi", "echo '<html>'")

    with pytest.raises(ParseError, match="<html>"):
        read_gpu(Host(root=tmp_path, system="Linux"))


def test_a_mac_asks_system_profiler(bin_folder: Path, open_nvml: MagicMock) -> None:
    _install_printing(bin_folder, "system_profiler", "system-profiler-m3-max.json")

    tags = read_gpu(Host(system="Darwin"))

    assert {key: value for key, value in tags.items() if value} == {
        "sys.gpu": "Apple M3 Max",
        "sys.gpu_count": "1",
    }
    open_nvml.assert_not_called()


@pytest.mark.usefixtures("open_nvml")
def test_windows_without_nvml_lists_its_adapters(bin_folder: Path) -> None:
    _install_printing(bin_folder, "powershell", "win32-video-laptop.json")

    tags = read_gpu(Host(system="Windows"))

    assert tags["sys.gpu"] == "Intel(R) Iris(R) Xe Graphics, NVIDIA GeForce RTX 3060 Laptop GPU"
    assert tags["sys.gpu_count"] == "2"
    assert tags["sys.gpu_memory_gb"] == ""


@pytest.mark.usefixtures("open_nvml", "bin_folder")
@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_elsewhere_a_missing_tool_is_no_none(system: str) -> None:
    with pytest.raises(GpusNotToldError, match="is not installed"):
        read_gpu(Host(system=system))


def _install(folder: Path, name: str, script: str) -> None:
    executable = folder / name
    executable.write_text(f"#!/bin/sh\n{script}\n")
    executable.chmod(0o755)


def _install_printing(folder: Path, name: str, printed: str, exit_status: int = 0) -> None:
    _install(folder, name, f"/bin/cat '{COMMANDS / printed}'\nexit {exit_status}")


def test_where_metrics_come_from(install_nvml: Callable[..., object]) -> None:
    install_nvml(h100())

    assert read_gpu_metrics(Host(environ={})) == {"sys.gpu_metrics": "nvml"}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("LIBRARY_NOT_FOUND", "no NVIDIA driver library"),
        ("DRIVER_NOT_LOADED", "the NVIDIA driver is not loaded"),
        ("LIB_RM_VERSION_MISMATCH", "differ in version"),
        ("NO_PERMISSION", "no permission"),
    ],
)
def test_why_there_are_no_metrics(
    install_nvml: Callable[..., FakeNvml], failure: str, reason: str, tmp_path: Path
) -> None:
    install_nvml(h100()).answers["nvmlInit"] = error(failure)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)

    value = read_gpu_metrics(Host(root=tmp_path, system="Linux", environ={}))["sys.gpu_metrics"]

    assert value.startswith("unavailable: nvml: ")
    assert reason in value


def test_gpus_that_this_process_is_not_given_give_no_metrics(
    install_nvml: Callable[..., FakeNvml],
) -> None:
    nvml = install_nvml(h100())

    assert read_gpu_metrics(Host(environ={"CUDA_VISIBLE_DEVICES": ""})) == {
        "sys.gpu_metrics": "unavailable: nvml: CUDA_VISIBLE_DEVICES='' gives this process no GPU"
    }
    assert sum(nvml.users.values()) == 0


def test_a_further_source_is_a_further_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_there(_host: Host) -> tuple[str, ...]:
        return ()

    def is_in_part(_host: Host) -> tuple[str, ...]:
        return ("GPU 1 of 2 is silent",)

    def is_absent(_host: Host) -> tuple[str, ...]:
        raise Absent("no such thing")

    def is_silent(_host: Host) -> tuple[str, ...]:
        raise Unavailable("it is silent")

    def names(*sources: tuple[str, Callable[[Host], tuple[str, ...]]]) -> str:
        rows = [(name, "collector", check) for name, check in sources]
        monkeypatch.setattr(gpu_module, "METRIC_SOURCES", rows)
        return read_gpu_metrics(Host())["sys.gpu_metrics"]

    assert names(("nvml", is_there), ("amdgpu", is_there)) == "nvml,amdgpu"
    assert names(("nvml", is_there), ("xe", is_silent)) == "nvml; xe: it is silent"
    assert names(("nvml", is_absent), ("xe", is_there)) == "xe"
    assert names(("nvml", is_silent), ("xe", is_absent), ("i915", is_silent)) == (
        "unavailable: nvml: it is silent; i915: it is silent"
    )
    assert names(("nvml", is_in_part), ("xe", is_absent)) == "nvml; GPU 1 of 2 is silent"
    assert not names(("nvml", is_absent), ("xe", is_absent))
