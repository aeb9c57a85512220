from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.memory import open_memory
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

GB = 10**9
GIB = 1 << 30
MEMORY = {"system_memory_usage_megabytes", "system_memory_usage_percentage"}


@pytest.fixture(params=["Linux", "Darwin"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(root=tmp_path, system=request.param)


def test_memory_and_swap_in_use(mocker: MockerFixture, host: Host) -> None:
    _set(mocker, host, swap_total=8 * GIB, swap_used=2 * GIB)

    assert open_memory(host).collect() == {
        "system_memory_usage_megabytes": 4000.0,
        "system_memory_usage_percentage": 25.0,
        "memory/swap_usage_megabytes": 2 * GIB / 1e6,
        "memory/swap_usage_percentage": 25.0,
    }


def test_a_host_without_swap_has_no_readings_of_it(mocker: MockerFixture, host: Host) -> None:
    _set(mocker, host, swap_total=0, swap_used=0)

    assert open_memory(host).collect().keys() == MEMORY


def test_swap_that_is_not_told_costs_only_itself(mocker: MockerFixture, tmp_path: Path) -> None:
    host = Host(root=tmp_path, system="Linux")
    _set(mocker, host, swap_total=8 * GIB, swap_used=2 * GIB)
    meminfo = host.procfs / "meminfo"
    meminfo.write_text(meminfo.read_text().replace("SwapFree", "SwapFred"))

    assert open_memory(host).collect().keys() == MEMORY


def _set(mocker: MockerFixture, host: Host, swap_total: int, swap_used: int) -> None:
    """Let the host have 4 of 16 GB in use; 3 more are taken up by caches."""
    if host.system == "Linux":
        total_kb, free_kb = swap_total // 1024, (swap_total - swap_used) // 1024
        text = (
            f"MemTotal: {16 * GB // 1024} kB\nMemFree: {9 * GB // 1024} kB\n"
            f"MemAvailable: {12 * GB // 1024} kB\n"
            f"SwapCached: 9 kB\nSwapTotal:  {total_kb} kB\nSwapFree:  {free_kb} kB\n"
        )
        (host.root / "proc").mkdir()
        (host.root / "proc/meminfo").write_text(text)
    else:
        memory = SimpleNamespace(total=16 * GB, used=4 * GB, available=9 * GB, percent=43.8)
        mocker.patch("psutil.virtual_memory", return_value=memory)
        swap = SimpleNamespace(total=swap_total, used=swap_used)
        mocker.patch("psutil.swap_memory", return_value=swap)
