"""Tags of hosts with accelerators of other makers than NVIDIA."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.accelerators.facts import read_gpu, read_gpu_metrics
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

NVIDIA = "mlflow_sysmetrics.accelerators.nvidia.vendor"
DATA = Path(__file__).parents[2] / "data/gpus"
NO_NVIDIA = "no NVIDIA driver library (libnvidia-ml) on this host"


@pytest.fixture(autouse=True)
def _no_nvidia(mocker: MockerFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither NVML nor nvidia-smi."""
    mocker.patch(f"{NVIDIA}.open_nvml", side_effect=Absent(NO_NVIDIA))
    monkeypatch.setenv("PATH", str(tmp_path))


def host_at(name: str, **environ: str) -> Host:
    return Host(root=DATA / name, system="Linux", environ=environ)


def test_amds_gpus_are_named_and_counted() -> None:
    tags = read_gpu(host_at("mi300x"))

    assert tags["sys.gpu"] == "2 x AMD Instinct MI300X OAM"
    assert tags["sys.gpu_count"] == "2"
    assert tags["sys.gpu_memory_gb"] == "412.28"
    assert tags["sys.gpu_driver"] == ""
    assert json.loads(tags["sys.gpu_devices"]) == {
        "all": {
            "name": "AMD Instinct MI300X OAM",
            "memory_gb": 206.14,
            "power_limit_watts": 750.0,
        },
        "0": {"uuid": "GPU-4a5f2ce1d7b09e63", "pci": "05:00.0"},
        "1": {"uuid": "GPU-8d03b6f49c1e7a52", "pci": "26:00.0"},
    }


def test_the_driver_that_comes_with_rocm_has_a_version(tmp_path: Path) -> None:
    shutil.copytree(DATA / "mi300x", tmp_path / "host")
    module = tmp_path / "host/sys/module/amdgpu"
    module.mkdir(parents=True)
    (module / "version").write_text("6.10.5\n")

    assert read_gpu(Host(root=tmp_path / "host", system="Linux"))["sys.gpu_driver"] == "6.10.5"


def test_a_gpu_that_does_not_report_its_memory_has_none() -> None:
    tags = read_gpu(host_at("i915-laptop"))

    assert tags["sys.gpu"] == "Intel Iris Xe Graphics"
    assert tags["sys.gpu_memory_gb"] == ""


def test_those_of_several_makers_are_reported_together(mocker: MockerFixture) -> None:
    mocker.patch(f"{NVIDIA}.open_nvml")
    nvidias = tuple(Device(index, "NVIDIA RTX A6000", 51_527_024_640, None) for index in range(2))
    mocker.patch(
        f"{NVIDIA}.read_inventory",
        return_value=Inventory("560.35.03", "12.6", nvidias),
    )

    tags = read_gpu(host_at("nvidia-and-radeon"))

    assert tags["sys.gpu"] == "2 x NVIDIA RTX A6000, AMD GPU 1002:744c"
    assert tags["sys.gpu_count"] == "3"
    assert tags["sys.gpu_driver"] == "560.35.03"
    assert json.loads(tags["sys.gpu_devices"])["2"]["pci"] == "41:00.0"


@pytest.mark.parametrize(
    ("name", "source"),
    [("mi300x", "amdgpu"), ("arc-xe", "xe"), ("i915-laptop", "i915")],
)
def test_the_driver_that_metrics_come_from_is_reported(name: str, source: str) -> None:
    assert read_gpu_metrics(host_at(name)) == {"sys.gpu_metrics": source}


def test_a_silent_nvidia_gpu_is_reported_beside_one_that_is_read(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch(f"{NVIDIA}.open_nvml", side_effect=Unavailable(NO_NVIDIA))
    shutil.copytree(DATA / "i915-laptop", tmp_path / "host")
    shutil.copytree(DATA / "i915-beside-nvidia/sys/bus", tmp_path / "host/sys/bus")

    assert read_gpu_metrics(Host(root=tmp_path / "host", system="Linux", environ={})) == {
        "sys.gpu_metrics": f"i915; nvml: {NO_NVIDIA}"
    }


def test_a_tpu_without_tpu_info_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)

    told = read_gpu_metrics(host_at("tpu-v5e"))["sys.gpu_metrics"]

    assert told.startswith("unavailable: libtpu: tpu-info cannot be imported")


def test_metrics_of_neuron_devices_come_from_their_monitor(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/neuron0").touch()
    host = Host(root=tmp_path, system="Linux", environ={})
    assert "neuron-monitor is not installed" in read_gpu_metrics(host)["sys.gpu_metrics"]

    mocker.patch.object(Host, "has_command", return_value=True)
    assert read_gpu_metrics(host) == {"sys.gpu_metrics": "neuron-monitor"}


def test_a_mac_lacks_no_nvidia_driver(mocker: MockerFixture) -> None:
    printed = (DATA.parent / "commands/ioreg-m1-max.txt").read_text()
    mocker.patch.object(Host, "run", return_value=printed)

    assert read_gpu_metrics(Host(system="Darwin", environ={})) == {"sys.gpu_metrics": "ioreg"}


def test_a_host_without_any_gpu_says_nothing(tmp_path: Path) -> None:
    host = Host(root=tmp_path, system="Linux", environ={})

    assert read_gpu_metrics(host) == {"sys.gpu_metrics": ""}


def test_gpus_that_are_hidden_from_the_process_are_a_reason() -> None:
    told = read_gpu_metrics(host_at("mi300x", ROCR_VISIBLE_DEVICES=""))["sys.gpu_metrics"]

    assert told == (
        "unavailable: amdgpu: the environment variables of ROCm or oneAPI show this process no GPU"
    )
