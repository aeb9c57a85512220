"""Every vendor of accelerators keeps the contract that tags, sampler and doctor rely on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mlflow_sysmetrics.accelerators
from fakes.fake_nvml import error, h100
from mlflow_sysmetrics.accelerators.sysfs_collector import AMD
from mlflow_sysmetrics.accelerators.vendors import VENDORS
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runner import BlockingCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.fake_nvml import FakeNvml
    from mlflow_sysmetrics.accelerators.contract import Vendor

SOURCE = Path(mlflow_sysmetrics.accelerators.__file__).parent

each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)


def test_every_vendor_has_a_collector_of_its_name_and_a_thread_if_it_may_block() -> None:
    openers = dict(COLLECTORS)

    assert len({vendor.name for vendor in VENDORS}) == len(VENDORS)
    for vendor in VENDORS:
        assert isinstance(openers[vendor.name], BlockingCollector) is vendor.may_block


@each_vendor
@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_on_a_host_without_hardware_a_vendor_has_no_news_and_opens_nothing(
    vendor: Vendor,
    system: str,
    install_nvml: Callable[..., FakeNvml],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_nvml(h100()).answers["nvmlInit"] = error("LIBRARY_NOT_FOUND")
    monkeypatch.setenv("PATH", str(tmp_path))
    host = Host(root=tmp_path, system=system, environ={})
    native = {"Darwin": "apple", "Windows": "nvidia"}.get(system)

    if vendor.name == native:  # the system's own list of GPUs is missing: that is an error
        assert "is not installed" in vendor.probe(host).list_failure
    else:
        with pytest.raises(Absent):
            vendor.probe(host)
    with pytest.raises(Unavailable):
        vendor.open(host)


def test_the_sampler_says_of_a_gpu_without_a_driver_what_the_tag_says(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    for name, content in (("vendor", "0x1002"), ("device", "0x74a1"), ("class", "0x120000")):
        (folder / name).write_text(f"{content}\n")
    host = Host(root=tmp_path, system="Linux", environ={})

    with pytest.raises(Unavailable, match="has no driver; load the kernel module amdgpu"):
        AMD.probe(host)
    with pytest.raises(Unavailable, match="has no driver; load the kernel module amdgpu"):
        AMD.open(host)


def test_vendors_read_neither_environment_nor_settings_themselves() -> None:
    for path in SOURCE.rglob("*.py"):
        source = path.read_text()
        assert not re.search(r"os\.(environ|getenv)|Settings", source), path
