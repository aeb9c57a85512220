from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import consumer_card, h100, load_gpu, memory
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory, MigInstance
from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]


def _inventory() -> Inventory:
    return read_inventory(open_nvml(Host()))


def test_reports_driver_and_devices(install_nvml: Install) -> None:
    install_nvml(h100(0), consumer_card())

    assert _inventory() == Inventory(
        driver="560.35.03",
        cuda="12.6",
        devices=(
            Device(
                index=0,
                name="NVIDIA H100 80GB HBM3",
                memory_bytes=80_000_000_000,
                uuid="GPU-00000000-0000-0000-0000-000000000000",
                pci_id="00000000:1B:00.0",
                compute_capability="9.0",
                power_limit_watts=700.0,
            ),
            Device(
                index=1,
                name="NVIDIA GeForce GT 1030",
                memory_bytes=2_000_000_000,
                uuid="GPU-10300000-0000-0000-0000-000000000000",
                pci_id="00000000:65:00.0",
                compute_capability="6.1",
            ),
        ),
    )


def test_reports_the_instances_of_a_gpu_in_mig_mode(install_nvml: Install) -> None:
    install_nvml(load_gpu("h100-mig"))

    (device,) = _inventory().devices

    assert device.in_mig_mode
    assert device.mig_instances == (
        MigInstance(0, "MIG-11111111-0000-0000-0000-000000000000", "1g.10gb", 9, 0),
        MigInstance(1, "MIG-33333333-0000-0000-0000-000000000000", "3g.40gb", 2, 0),
    )


def test_takes_bytes_where_an_old_pynvml_gives_them(install_nvml: Install) -> None:
    gpu = h100()
    gpu.answers |= {"nvmlDeviceGetName": b"Tesla K80", "nvmlDeviceGetUUID": b"GPU-1"}
    install_nvml(gpu).answers["nvmlSystemGetDriverVersion"] = b"418.87"

    inventory = _inventory()

    assert inventory.driver == "418.87"
    assert (inventory.devices[0].name, inventory.devices[0].uuid) == ("Tesla K80", "GPU-1")


@pytest.mark.parametrize(
    ("version", "cuda"), [(9020, "9.2"), (11080, "11.8"), (13000, "13.0"), (0, None)]
)
def test_cuda_version(install_nvml: Install, version: int, cuda: str | None) -> None:
    install_nvml(h100()).answers["nvmlSystemGetCudaDriverVersion_v2"] = version

    assert _inventory().cuda == cuda


@pytest.mark.parametrize("gpu", ["gb10", "no bytes"])
def test_a_gpu_without_memory_of_its_own_reports_none(install_nvml: Install, gpu: str) -> None:
    whole = h100()
    whole.answers["nvmlDeviceGetMemoryInfo"] = memory(used=0, total=0)
    install_nvml(load_gpu(gpu) if gpu == "gb10" else whole)

    assert _inventory().devices[0].memory_bytes is None


def test_a_name_that_is_no_text_is_not_reported(install_nvml: Install) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetName"] = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte")
    install_nvml(gpu)

    assert _inventory().devices[0].name == "NVIDIA GPU"
