"""Why GPU metrics are missing: the tag and doctor say it; a host without a GPU says nothing."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import FakeGpu, error, h100, load_gpu, memory, utilization
from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.apple.collector import open_apple
from mlflow_sysmetrics.accelerators.facts import read_gpu, read_gpu_metrics
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.accelerators.sysfs_collector import open_amd
from mlflow_sysmetrics.cli.diagnosis import diagnose
from mlflow_sysmetrics.facts.probes import read_fact
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

GPUS = Path(__file__).parents[1] / "data/gpus"
NO_LIBRARY = "no NVIDIA driver library"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A Linux host whose PCI bus has nothing on it, and that has no commands."""
    (tmp_path / "host/sys/bus/pci/devices").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Host(root=tmp_path / "host", system="Linux", environ={}, clock=Simulation())


def said(host: Host) -> str:
    return read_gpu_metrics(host)["sys.gpu_metrics"]


def plug_in(host: Host, **files: str) -> None:
    """Put a device on the PCI bus."""
    folder = host.sysfs / "bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("pci_class", "class")).write_text(f"{content}\n")


def without_library(install_nvml: Install) -> None:
    install_nvml().answers["nvmlInit"] = error("LIBRARY_NOT_FOUND")


def jetson() -> FakeGpu:
    gpu = h100()
    name, uuid = "Orin (nvgpu)", gpu.answers["nvmlDeviceGetUUID"]
    gpu.fails("NOT_SUPPORTED", list(gpu.answers))
    gpu.fields = dict.fromkeys(gpu.fields, "NOT_SUPPORTED")
    gpu.answers |= {"nvmlDeviceGetName": name, "nvmlDeviceGetUUID": uuid}
    return gpu


def zeros(**answers: object) -> FakeGpu:
    """A GPU whose driver answers every question with success and 0."""
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetUtilizationRates": utilization(0, 0),
        "nvmlDeviceGetMemoryInfo": memory(used=0, total=0),
        "nvmlDeviceGetPowerUsage": 0,
        "nvmlDeviceGetEnforcedPowerLimit": 0,
        "nvmlDeviceGetTemperature": 0,
        "nvmlDeviceGetTemperature(0)": 0,
        "nvmlDeviceGetClockInfo(1)": 0,
        "nvmlDeviceGetClockInfo(2)": 0,
        "nvmlDeviceGetFanSpeed": 0,
        **answers,
    }
    gpu.fields = dict.fromkeys(gpu.fields, 0)
    return gpu


# NVIDIA: GPUs that are there and report nothing


def test_a_jetson_says_that_it_supports_nothing(install_nvml: Install, host: Host) -> None:
    install_nvml(jetson())

    assert said(host) == (
        "unavailable: nvml: the GPU reports nothing (Not Supported); "
        "on a Jetson, tegrastats shows its figures"
    )
    collector = open_nvidia(host)
    assert collector.collect() == {}
    assert collector.notes()[-1] == "GPU 0 reports nothing: Not Supported"


def test_a_gpu_that_reports_only_zeros_has_no_metrics(install_nvml: Install, host: Host) -> None:
    install_nvml(zeros())

    assert said(host).startswith("unavailable: nvml: the GPU reports 0 for everything")
    collector = open_nvidia(host)
    assert collector.collect() == {}
    assert any("reports 0 for everything" in note for note in collector.notes())


@pytest.mark.parametrize(
    "supported",
    [
        ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPowerUsage"),
        ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature(0)"),
    ],
)
def test_a_driver_that_has_few_functions_and_0_for_these_has_no_metrics(
    supported: tuple[str, ...], install_nvml: Install, host: Host
) -> None:
    gpu = zeros()
    kept = ("nvmlDeviceGetUUID", "nvmlDeviceGetName", *supported)
    for name in gpu.answers.keys() - set(kept):
        gpu.answers[name] = error("NOT_SUPPORTED")
    gpu.fields = dict.fromkeys(gpu.fields, "NOT_SUPPORTED")
    install_nvml(gpu)

    assert "reports 0 for everything" in said(host)
    assert open_nvidia(host).collect() == {}


def test_a_gpu_at_rest_keeps_its_utilisation_of_0(install_nvml: Install, host: Host) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetUtilizationRates"] = utilization(0, 0)
    install_nvml(gpu)

    assert said(host) == "nvml"
    assert open_nvidia(host).collect()["gpu_0_utilization_percentage"] == 0.0


def test_a_virtual_gpu_without_sensors_keeps_its_memory(install_nvml: Install, host: Host) -> None:
    install_nvml(zeros(nvmlDeviceGetMemoryInfo=memory(used=4_000_000_000, total=24_000_000_000)))

    assert said(host) == "nvml"
    readings = open_nvidia(host).collect()
    assert readings["gpu_0_memory_usage_megabytes"] == 4_000
    assert readings["gpu_0_utilization_percentage"] == 0.0
    impossible = ("temperature_celsius", "power_limit_watts", "sm_clock_megahertz")
    assert not readings.keys() & {f"gpu_0_{name}" for name in impossible}


def test_the_one_gpu_of_several_that_is_lost_is_named(install_nvml: Install, host: Host) -> None:
    lost = h100(1)
    lost.fails("GPU_IS_LOST")
    install_nvml(h100(0), lost)

    assert said(host) == (
        "nvml; GPU 1 of 2 reports nothing "
        "(GPU is lost: it fell off the bus; reset it or reboot the host)"
    )


def test_gpus_with_one_reason_share_a_sentence(install_nvml: Install, host: Host) -> None:
    gpus = [h100(index) for index in range(4)]
    for gpu in gpus[1:3]:
        gpu.fails("RESET_REQUIRED")
    install_nvml(*gpus)
    assert said(host).startswith("nvml; each of GPU 1, 2 of 4 reports nothing (")

    for gpu in gpus:
        gpu.fails("RESET_REQUIRED")
    assert said(host).startswith("unavailable: nvml: each of the 4 GPUs reports nothing (")


def test_no_permission_says_what_is_needed(install_nvml: Install, host: Host) -> None:
    gpu = h100()
    gpu.fails("NO_PERMISSION")
    install_nvml(gpu)

    assert said(host) == (
        "unavailable: nvml: the GPU reports nothing (Insufficient Permissions); "
        "this user needs access to the GPU's device file (/dev/nvidia<n>)"
    )


def test_a_container_that_lost_its_gpu_is_to_be_restarted(
    install_nvml: Install, host: Host
) -> None:
    gpu = h100()
    gpu.fails("UNKNOWN")
    install_nvml(gpu)

    assert "a container that lost its GPU has to be restarted" in said(host)


@pytest.mark.parametrize("refusal", ["NO_PERMISSION", "NOT_FOUND"])
def test_a_gpu_in_mig_mode_without_an_instance_says_what_to_do(
    refusal: str, install_nvml: Install, host: Host
) -> None:
    gpu = load_gpu("h100-mig")
    gpu.answers["nvmlDeviceGetMigDeviceHandleByIndex"] = error(refusal)
    install_nvml(gpu)

    assert said(host).startswith("nvml; GPU 0 of 1 is in MIG mode and gives this process no inst")


def test_doctor_says_of_a_gpu_what_the_tag_says(
    install_nvml: Install, mocker: MockerFixture, host: Host
) -> None:
    mocker.patch("mlflow_sysmetrics.cli.diagnosis.Host", return_value=host)
    install_nvml(jetson())

    report = diagnose()

    assert f"unavailable: nvml: {report.sources['nvidia']}" == said(host)
    assert [note for note in report.notes if note.startswith("GPU")] == [
        "GPU 0 reports nothing: Not Supported"
    ]


# NVIDIA: the library


def test_a_host_without_a_gpu_has_no_tag_that_explains_it(
    install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)

    assert said(host) == ""
    assert read_gpu(host) == {"sys.gpu": "None"}


@pytest.mark.parametrize("failure", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"])
def test_an_image_with_nvidias_tools_on_a_host_without_a_gpu_says_nothing(
    failure: str, install_nvml: Install, host: Host, tmp_path: Path
) -> None:
    install_nvml().answers["nvmlInit"] = error(failure)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)

    assert said(host) == ""
    assert read_gpu(host) == {"sys.gpu": "None"}


def test_pynvml_that_is_broken_is_no_matter_on_a_host_without_a_gpu(
    mocker: MockerFixture, host: Host
) -> None:
    mocker.patch("importlib.import_module", side_effect=ImportError("no pynvml"))

    assert said(host) == ""


@pytest.mark.parametrize(
    "place", ["dev/nvidia0", "dev/nvidiactl", "dev/nvhost-gpu", "proc/driver/nvidia/version"]
)
def test_a_gpu_whose_library_is_missing_says_so(
    place: str, install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)
    (host.root / place).parent.mkdir(parents=True)
    (host.root / place).touch()

    assert said(host).startswith(f"unavailable: nvml: {NO_LIBRARY}")
    outcome = read_fact(("gpu", read_gpu), host)
    assert (outcome.tags, outcome.error) == ({}, "")  # neither None nor the reason once more


def test_a_gpu_without_a_driver_is_seen_on_the_pci_bus(install_nvml: Install, host: Host) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x10de", device="0x2330", pci_class="0x030200")

    assert said(host).startswith(f"unavailable: nvml: {NO_LIBRARY}")


def test_what_else_nvidia_makes_is_no_gpu(install_nvml: Install, host: Host) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x10de", device="0x22a3", pci_class="0x068000")  # an NVSwitch

    assert said(host) == ""


def test_a_gpu_that_windows_shares_with_wsl_says_where_its_driver_belongs(
    install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)
    (host.root / "dev").mkdir()
    (host.root / "dev/dxg").touch()

    assert "install NVIDIA's driver in Windows" in said(host)


def test_a_container_without_the_capability_utility_says_what_to_set(
    install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)
    (host.root / "dev").mkdir()
    (host.root / "dev/nvidia0").touch()
    host = Host(host.root, "Linux", {"NVIDIA_DRIVER_CAPABILITIES": "compute,video"})

    assert said(host).endswith("add utility: NVIDIA_DRIVER_CAPABILITIES=compute,video,utility")


@pytest.mark.parametrize("failure", ["LIB_RM_VERSION_MISMATCH", "NO_PERMISSION", "UNKNOWN"])
def test_what_a_loaded_driver_says_needs_no_other_sign_of_a_gpu(
    failure: str, install_nvml: Install, host: Host
) -> None:
    install_nvml().answers["nvmlInit"] = error(failure)

    assert said(host).startswith("unavailable: nvml: ")
    assert read_fact(("gpu", read_gpu), host).tags == {}


# AMD and Intel


@pytest.fixture
def amd(host: Host, install_nvml: Install) -> Host:
    """A host with two of AMD's GPUs and none of NVIDIA's."""
    without_library(install_nvml)
    shutil.copytree(GPUS / "mi300x", host.root, dirs_exist_ok=True)
    return host


def fail(host: Host, file: str, card: str = "card1") -> None:
    """Let a file fail as it is read, also for root."""
    path = next((host.sysfs / f"class/drm/{card}/device").rglob(file))
    path.unlink()
    path.mkdir()


def test_amds_files_that_cannot_be_read_are_named(amd: Host) -> None:
    assert said(amd) == "amdgpu"
    fail(amd, "gpu_busy_percent")
    fail(amd, "power1_input")

    assert said(amd) == (
        "amdgpu; GPU 0 of 2 does not report "
        "utilization_percentage (gpu_busy_percent: Is a directory), "
        "power_usage_watts (power1_input: Is a directory)"
    )
    notes = open_amd(amd).notes()
    assert "GPU 0 does not report utilization_percentage: gpu_busy_percent: Is a directory" in notes


def test_amds_files_that_are_missing_are_named(amd: Host) -> None:
    for card in ("card1", "card9"):
        (amd.sysfs / f"class/drm/{card}/device/gpu_busy_percent").unlink()
    (amd.sysfs / "class/drm/card9/device/mem_info_vram_used").unlink()

    assert said(amd) == (
        "amdgpu; GPU 0 of 2 does not report "
        "utilization_percentage (gpu_busy_percent: no such file); "
        "GPU 1 of 2 does not report utilization_percentage (gpu_busy_percent: no such file), "
        "memory_usage_megabytes (mem_info_vram_used: no such file)"
    )
    assert any("utilization_percentage" in note for note in open_amd(amd).notes())


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_this_user_may_not_read_are_named(install_nvml: Install) -> None:
    without_library(install_nvml)
    with TemporaryDirectory() as folder:
        shutil.copytree(GPUS / "mi300x", folder, dirs_exist_ok=True)
        Path(folder).chmod(0o755)
        host = Host(Path(folder), "Linux", {}, Simulation())
        device = host.sysfs / "class/drm/card1/device"
        (device / "gpu_busy_percent").chmod(0)
        (device / "hwmon/hwmon4").chmod(0)

        with without_privileges():
            told, readings = said(host), open_amd(host).collect()

        (device / "hwmon/hwmon4").chmod(0o755)
    assert "utilization_percentage (gpu_busy_percent: Permission denied)" in told
    assert "power_usage_watts (power1_average: Permission denied)" in told
    assert "gpu_0_memory_usage_megabytes" in readings
    assert "gpu_1_utilization_percentage" in readings


def test_a_size_of_the_memory_that_cannot_be_read_is_named(amd: Host) -> None:
    fail(amd, "mem_info_vram_total")

    assert said(amd) == (
        "amdgpu; GPU 0 of 2 does not report "
        "memory_usage_percentage (mem_info_vram_total: Is a directory)"
    )


def test_a_file_without_a_number_is_named(amd: Host) -> None:
    (amd.sysfs / "class/drm/card9/device/gpu_busy_percent").write_text("N/A\n")

    assert "GPU 1 of 2 does not report utilization_percentage (gpu_busy_percent: no" in said(amd)


def test_a_gpu_whose_files_all_fail_reports_nothing(amd: Host) -> None:
    for card in ("card1", "card9"):
        for path in list((amd.sysfs / f"class/drm/{card}/device").rglob("*")):
            if path.name.startswith(("gpu_busy", "mem_")) or path.name.endswith(("_input", "_cap")):
                fail(amd, path.name, card)

    assert said(amd).startswith(
        "unavailable: amdgpu: each of the 2 GPUs reports nothing (gpu_busy_percent: Is a directory)"
    )


def test_an_amd_gpu_that_reports_only_zeros_has_no_metrics(amd: Host) -> None:
    for card in ("card1", "card9"):
        for path in (amd.sysfs / f"class/drm/{card}/device").rglob("*"):
            if path.name.startswith(("gpu_busy", "mem_")) or path.name.endswith(("_input", "_cap")):
                path.write_text("0\n")

    assert said(amd).startswith("unavailable: amdgpu: each of the 2 GPUs reports 0 for everything")
    assert not [name for name in open_amd(amd).collect() if "process" not in name]


@pytest.mark.parametrize(
    ("device", "driver", "reason"),
    [
        ("0x74a1", "", "amdgpu: the GPU 1002:74a1 (0000:01:00.0) has no driver; load the kernel"),
        ("0x74a1", "vfio-pci", "is given to a virtual machine (vfio-pci)"),
        ("0x74a1", "amdgpu", "cannot be read below /sys/class/drm"),
    ],
)
def test_an_amd_gpu_without_its_driver_says_so(
    device: str, driver: str, reason: str, install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x1002", device=device, pci_class="0x120000")
    if driver:
        link = host.sysfs / "bus/pci/devices/0000:01:00.0/driver"
        link.symlink_to(f"../../../bus/pci/drivers/{driver}")

    assert reason in said(host)
    outcome = read_fact(("gpu", read_gpu), host)
    assert (outcome.tags, outcome.error) == ({}, "")


def test_an_old_graphics_chip_of_a_server_is_no_gpu(install_nvml: Install, host: Host) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x1002", device="0x515e", pci_class="0x030000", uevent="DRIVER=radeon")

    assert said(host) == ""
    assert read_gpu(host) == {"sys.gpu": "None"}


def test_an_intel_gpu_without_its_driver_says_so(install_nvml: Install, host: Host) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x8086", device="0x56c0", pci_class="0x038000")

    assert said(host) == (
        "unavailable: i915: the GPU 8086:56c0 (0000:01:00.0) has no driver; "
        "load the kernel module xe or i915"
    )


# Others


def test_a_neuron_device_without_its_driver_says_so(install_nvml: Install, host: Host) -> None:
    without_library(install_nvml)
    plug_in(host, vendor="0x1d0f", device="0x7364", pci_class="0x088000")

    assert "install aws-neuronx-dkms" in said(host)


def test_a_container_that_has_not_the_first_neuron_device_has_one(
    install_nvml: Install, host: Host
) -> None:
    without_library(install_nvml)
    (host.root / "dev").mkdir()
    (host.root / "dev/neuron4").touch()

    assert said(host).startswith("unavailable: neuron-monitor: neuron-monitor is not installed")


def test_a_tpu_is_known_by_its_device_file_too(
    install_nvml: Install, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_library(install_nvml)
    monkeypatch.setitem(__import__("sys").modules, "grpc", None)
    (host.root / "dev").mkdir()
    (host.root / "dev/accel0").touch()

    assert said(host).startswith("unavailable: libtpu: tpu-info cannot be imported")
    assert said(host).endswith("pip install tpu-info")


def printing(mocker: MockerFixture, printed: str) -> None:
    mocker.patch.object(Host, "run", return_value=printed)


STATISTICS = """\
+-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x100000a90>
    {{
      "PerformanceStatistics" = {{{}}}
    }}
"""


def test_a_virtual_mac_without_a_gpu_says_nothing(
    install_nvml: Install, mocker: MockerFixture
) -> None:
    without_library(install_nvml)
    printing(mocker, "")

    assert said(Host(system="Darwin", environ={})) == ""


@pytest.mark.parametrize(
    ("statistics", "reason"),
    [
        ('"Device Utilization %"=0,"In use system memory"=0', "reports nothing but 0"),
        ('"recoveryCount"=3', "reports nothing (its driver has no figures for ioreg)"),
    ],
)
def test_a_mac_whose_gpu_reports_nothing_says_why(
    statistics: str, reason: str, install_nvml: Install, mocker: MockerFixture
) -> None:
    without_library(install_nvml)
    printing(mocker, STATISTICS.format(statistics))
    host = Host(system="Darwin", environ={})

    assert said(host).startswith(f"unavailable: ioreg: the GPU {reason}")
    assert open_apple(host).collect() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NVIDIA RTX A4000", f"unavailable: nvml: {NO_LIBRARY}"),
        ("AMD Radeon PRO W7900", "unavailable: nvml: on Windows only NVIDIA's driver reports"),
        ("Microsoft Basic Display Adapter", ""),
        ("VMware SVGA 3D", ""),
    ],
)
def test_windows_says_what_its_adapters_lack(
    name: str, value: str, install_nvml: Install, mocker: MockerFixture
) -> None:
    without_library(install_nvml)
    printing(mocker, f'{{"Name": "{name}", "AdapterRAM": 0, "DriverVersion": "31.0"}}')

    told = said(Host(system="Windows", environ={}))

    assert told.startswith(value)
    assert bool(told) == bool(value)
