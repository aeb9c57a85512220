from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import error, h100
from mlflow_sysmetrics.accelerators import facts as gpu_module
from mlflow_sysmetrics.accelerators.contract import Found, Vendor
from mlflow_sysmetrics.accelerators.facts import (
    GpusUnknownError,
    describe_models,
    gpu_tags,
    read_gpu,
    read_gpu_metrics,
    read_gpus,
)
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.facts.probes import read_fact
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from unittest.mock import MagicMock

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

NVIDIA = "mlflow_sysmetrics.accelerators.nvidia.vendor"
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
        f"{NVIDIA}.open_nvml",
        side_effect=Absent("no libnvidia-ml"),
    )


def test_alike_gpus_are_counted_and_mixed_ones_listed_in_order() -> None:
    assert describe_models(["Tesla T4"]) == "Tesla T4"
    assert describe_models(["Tesla T4"] * 8) == "8 x Tesla T4"
    assert describe_models(["A100", "Tesla T4", "A100"]) == "2 x A100, Tesla T4"


def test_what_an_inventory_does_not_report_stays_empty() -> None:
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
    mocker.patch(f"{NVIDIA}.read_inventory", return_value=inventory)

    assert read_gpu(Host(root=tmp_path, system="Linux"))["sys.gpu"] == "T4"
    nvml.close.assert_called_once_with()


def test_nvml_is_let_go_when_it_fails(
    open_nvml: MagicMock, tmp_path: Path, mocker: MockerFixture
) -> None:
    open_nvml.side_effect = None
    nvml = open_nvml.return_value
    mocker.patch(f"{NVIDIA}.read_inventory", side_effect=ZeroDivisionError)

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


@pytest.mark.usefixtures("bin_folder")
def test_a_device_file_without_a_way_to_ask_is_no_none(
    install_nvml: Callable[..., FakeNvml], tmp_path: Path
) -> None:
    install_nvml().answers["nvmlInit"] = error("LIBRARY_NOT_FOUND")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()

    tags = read_gpus(Host(root=tmp_path, system="Linux"))

    assert tags.keys() == {"sys.gpu_metrics"}
    assert tags["sys.gpu_metrics"].startswith("unavailable: nvml: no NVIDIA driver library")


@pytest.mark.usefixtures("open_nvml")
@pytest.mark.parametrize("exit_status", [0, 6])
def test_no_devices_is_none_whatever_the_exit_status(
    exit_status: int, bin_folder: Path, tmp_path: Path
) -> None:
    _install_printing(bin_folder, "nvidia-smi", "nvidia-smi-none.txt", exit_status)

    assert read_gpu(Host(root=tmp_path, system="Linux")) == {"sys.gpu": "None"}


@pytest.mark.usefixtures("open_nvml")
def test_a_failing_nvidia_smi_reports_nothing(bin_folder: Path, tmp_path: Path) -> None:
    _install_printing(bin_folder, "nvidia-smi", "nvidia-smi-no-driver.txt", exit_status=9)

    with pytest.raises(GpusUnknownError, match="nvidia-smi failed with exit status 9"):
        read_gpu(Host(root=tmp_path, system="Linux"))


@pytest.mark.usefixtures("open_nvml")
def test_a_garbage_printing_nvidia_smi_reports_nothing(bin_folder: Path, tmp_path: Path) -> None:
    _install(bin_folder, "nvidia-smi", "echo '<html>'")

    with pytest.raises(GpusUnknownError, match="<html>"):
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
    with pytest.raises(GpusUnknownError, match="is not installed"):
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


class Row:
    """A vendor that finds what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def tag(self, *sources: tuple[str, Found | Unavailable]) -> str:
        vendors = tuple(self._vendor(name, result) for name, result in sources)
        self.patch.setattr(gpu_module, "VENDORS", vendors)
        return read_gpu_metrics(Host())["sys.gpu_metrics"]

    def _vendor(self, source: str, result: Found | Unavailable) -> Vendor:
        def probe(_host: Host) -> Found:
            if isinstance(result, Unavailable):
                raise result
            return result

        return Vendor(source, source, may_block=False, probe=probe, open=open_nvidia)


def test_a_further_vendor_is_a_further_row(monkeypatch: pytest.MonkeyPatch) -> None:
    there, absent, silent = Found(), Absent("no such thing"), Unavailable("it is silent")
    hidden = Found(silence=Unavailable("it is hidden"))
    tag = Row(monkeypatch).tag

    assert tag(("nvml", there), ("amdgpu", there)) == "nvml,amdgpu"
    assert tag(("nvml", there), ("xe", silent)) == "nvml; xe: it is silent"
    assert tag(("nvml", absent), ("i915", Found(source="xe"))) == "xe"
    assert tag(("nvml", hidden), ("xe", absent), ("i915", silent)) == (
        "unavailable: nvml: it is hidden; i915: it is silent"
    )
    part = Found(notes=("GPU 1 of 2 is silent",))
    assert tag(("nvml", part), ("xe", absent)) == "nvml; GPU 1 of 2 is silent"
    assert not tag(("nvml", absent), ("xe", Found(silence=absent)))


def test_tags_and_metrics_come_from_one_opening_of_nvml(
    install_nvml: Callable[..., FakeNvml],
) -> None:
    nvml = install_nvml(h100())

    tags = read_gpus(Host(environ={}))

    assert (tags["sys.gpu"], tags["sys.gpu_metrics"]) == ("NVIDIA H100 80GB HBM3", "nvml")
    assert nvml.asked("nvmlInit") == 1
    assert sum(nvml.users.values()) == 0


def test_where_gpus_cannot_be_listed_the_run_still_says_why_it_has_no_metrics(
    bin_folder: Path, install_nvml: Callable[..., FakeNvml], tmp_path: Path
) -> None:
    install_nvml().answers["nvmlInit"] = error("LIBRARY_NOT_FOUND")
    _install(bin_folder, "nvidia-smi", "exit 9")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/neuron0").touch()

    outcome = read_fact(("gpu", read_gpus), Host(root=tmp_path, system="Linux"))

    assert outcome.error == "gpu: nvidia-smi failed with exit status 9"
    assert "neuron-monitor is not installed" in outcome.tags["sys.gpu_metrics"]
    assert "sys.gpu" not in outcome.tags
