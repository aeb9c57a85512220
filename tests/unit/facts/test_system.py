from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.catalog.units import gigabytes
from mlflow_sysmetrics.facts.cpu import read_cpu_limit
from mlflow_sysmetrics.facts.memory import read_memory, read_memory_limit
from mlflow_sysmetrics.facts.system import read_os, windows_name
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.cgroup import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (("11", "10.0.22631", "Professional"), "Windows 11 Professional (10.0.22631)"),
        (("10", "10.0.22631", "Core"), "Windows 11 Core (10.0.22631)"),
        (("10", "10.0.19045", ""), "Windows 10 (10.0.19045)"),
        (
            ("2022Server", "10.0.20348", "ServerStandard"),
            "Windows Server 2022 ServerStandard (10.0.20348)",
        ),
    ],
)
def test_windows_is_named_as_people_say_it(told: tuple[str, str, str], name: str) -> None:
    assert windows_name(*told) == name


def test_a_mac_is_named_with_its_version(mocker: MockerFixture) -> None:
    mocker.patch("platform.mac_ver", return_value=("15.1", ("", "", ""), "arm64"))

    assert read_os(Host(system="Darwin")) == {"sys.os": "macOS 15.1"}


def test_a_linux_without_pretty_name_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("NAME=Buildroot\nID=buildroot\n")

    assert read_os(Host(root=tmp_path, system="Linux")) == {"sys.os": "Buildroot"}


def test_a_linux_without_os_release_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="os-release"):
        read_os(Host(root=tmp_path, system="Linux"))


def test_memory_elsewhere_is_what_psutil_tells(mocker: MockerFixture) -> None:
    mocker.patch("psutil.virtual_memory").return_value.total = 34_359_738_368

    assert read_memory(Host(system="Darwin")) == {"sys.memory_gb": "34.36"}


@pytest.mark.parametrize(
    ("cpus", "tag"), [(3.5, "3.5"), (2.0, "2"), (0.25, "0.25"), (100.0, "100"), (1 / 3, "0.33")]
)
def test_a_cpu_limit_has_two_decimals_at_most(cpus: float, tag: str, mocker: MockerFixture) -> None:
    mocker.patch("mlflow_sysmetrics.facts.cpu.read_limits", return_value=Limits(cpus=cpus))

    assert read_cpu_limit(Host()) == {"sys.cpu_limit": tag}


def test_without_limits_there_are_no_tags(mocker: MockerFixture) -> None:
    mocker.patch("mlflow_sysmetrics.facts.cpu.read_limits", return_value=Limits())
    mocker.patch("mlflow_sysmetrics.facts.memory.read_limits", return_value=Limits())

    assert read_cpu_limit(Host()) == {}
    assert read_memory_limit(Host()) == {}


def test_gigabytes_are_decimal() -> None:
    assert gigabytes(540_630_000_000) == "540.63"
    assert gigabytes(8_000_000_000) == "8.0"
