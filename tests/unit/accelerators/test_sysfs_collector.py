"""AMD's and Intel's GPUs over trees of files; `gpus.json` beside each tree has the readings.

The trees are written after the kernel's documentation; none was recorded on such a machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.facts import survey
from mlflow_sysmetrics.accelerators.sysfs_collector import open_amd, open_intel
from mlflow_sysmetrics.catalog import gpu_name, metrics_of
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.collectors.contract import Collector

DATA = Path(__file__).parents[2] / "data/gpus"
HOSTS = sorted(path.parent for path in DATA.glob("*/gpus.json"))
OPENERS = {"amd": open_amd, "intel": open_intel}
DRM = "sys/class/drm"

each_host = pytest.mark.parametrize("root", HOSTS, ids=lambda root: root.name)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[..., Host]:
    """A copy of a host, to be changed."""

    def copy(name: str, **environ: str) -> Host:
        shutil.copytree(DATA / name, tmp_path / name)
        return Host(root=tmp_path / name, system="Linux", environ=environ, clock=Simulation())

    return copy


def write(host: Host, path: str, content: object) -> None:
    (host.root / DRM / path).write_text(f"{content}\n")


def advance(host: Host, seconds: float) -> None:
    assert isinstance(host.clock, Simulation)
    host.clock.pass_time(seconds)


def in_the_hosts_namespace(host: Host, namespace: str = "pid:[4026531836]") -> None:
    (host.procfs / "self/ns").mkdir(parents=True)
    (host.procfs / "self/ns/pid").symlink_to(namespace)


def use_memory(host: Host, pid: int, kfd_id: int, used_bytes: int) -> None:
    path = host.sysfs / f"class/kfd/kfd/proc/{pid}/vram_{kfd_id}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{used_bytes}\n")


def add_kfd_node(
    host: Host, number: int, location_id: int, *, minor: int = 130, unique_id: int = 0
) -> None:
    folder = host.sysfs / f"class/kfd/kfd/topology/nodes/{number}"
    folder.mkdir()
    (folder / "gpu_id").write_text(f"{number}\n")
    (folder / "properties").write_text(
        f"location_id {location_id}\ndrm_render_minor {minor}\nunique_id {unique_id}\n"
    )


def deny(host: Host, node: int) -> None:
    """Let reading fail, as it does in a control group that may not use the GPU."""
    folder = host.sysfs / f"class/kfd/kfd/topology/nodes/{node}"
    for name in ("gpu_id", "properties"):
        (folder / name).unlink()
        (folder / name).mkdir()


def pass_in(host: Host, render_node: str) -> None:
    (host.root / "dev/dri").mkdir(parents=True)
    (host.root / "dev/dri" / render_node).touch()


def devices_of(host: Host) -> list[Device]:
    inventories = [found.inventory for found in survey(host).values()]
    return [device for one in inventories if one is not None for device in one.devices]


def indices(collector: Collector) -> set[str]:
    return {
        name[4:].replace("/", "_").split("_")[0]
        for name in collector.collect()
        if name[4].isdigit()
    }


# Over described trees


def test_there_are_described_hosts() -> None:
    assert len(HOSTS) >= 7


@each_host
@pytest.mark.parametrize(("name", "opener"), OPENERS.items())
def test_readings_of_a_described_host(
    root: Path, name: str, opener: Callable[[Host], Collector]
) -> None:
    golden = json.loads((root / "gpus.json").read_text())[name]
    host = Host(root=root, system="Linux", environ={})
    if golden is None:
        with pytest.raises(Unavailable):
            opener(host)
        return

    assert opener(host).collect() == pytest.approx(golden, abs=1e-3)


@each_host
def test_names_and_memory_of_a_described_host(root: Path) -> None:
    golden = json.loads((root / "gpus.json").read_text())["devices"]
    devices = devices_of(Host(root=root, system="Linux", environ={}))

    assert [[each.index, each.name, each.memory_bytes] for each in devices] == golden


@each_host
def test_every_reading_is_for_a_metric_of_the_catalog(root: Path) -> None:
    golden = json.loads((root / "gpus.json").read_text())

    for name in OPENERS:
        assert all(metrics_of(reading) for reading in golden[name] or ())


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
@pytest.mark.parametrize("opener", OPENERS.values())
def test_elsewhere_there_is_none(opener: Callable[[Host], Collector], system: str) -> None:
    with pytest.raises(Unavailable, match="no GPU of the driver"):
        opener(Host(root=DATA / "mi300x", system=system, environ={}))


# What is missing


@pytest.mark.parametrize(
    ("gone", "lost"),
    [
        ("gpu_busy_percent", {"utilization_percentage"}),
        ("mem_busy_percent", {"memory_controller_utilization_percentage"}),
        ("mem_info_vram_used", {"memory_usage_megabytes", "memory_usage_percentage"}),
        ("mem_info_vram_total", {"memory_usage_percentage"}),
        ("mem_info_gtt_used", {"host_memory_usage_megabytes"}),
        (
            "hwmon/hwmon4/power1_input",
            {"power_usage_watts", "power_usage_percentage", "energy_estimated_joules"},
        ),
        ("hwmon/hwmon4/power1_cap", {"power_limit_watts", "power_usage_percentage"}),
        ("hwmon/hwmon4/temp2_label", {"temperature_celsius"}),
        ("hwmon/hwmon4/temp3_input", {"memory_temperature_celsius"}),
        ("hwmon/hwmon4/freq1_label", {"sm_clock_megahertz"}),
    ],
)
def test_a_missing_file_costs_its_own_readings_alone(
    gone: str, lost: set[str], copy_of: Callable[..., Host]
) -> None:
    host = copy_of("mi300x")
    whole = set(open_amd(host).collect())
    (host.root / DRM / "card1/device" / gone).unlink()

    left = set(open_amd(host).collect())

    assert {name for name in whole - left if name.startswith("gpu_0")} == {
        gpu_name(0, name) for name in lost
    }
    assert {name for name in whole if name.startswith("gpu_1")} <= left


def test_a_file_that_fails_for_a_while_is_read_again(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    collector = open_amd(host)
    for broken in ("", "-1", "12 %", "9" * 40, "\ufffd"):
        write(host, "card1/device/gpu_busy_percent", broken)
        assert "gpu_0_utilization_percentage" not in collector.collect()

    write(host, "card1/device/gpu_busy_percent", 41)

    assert collector.collect()["gpu_0_utilization_percentage"] == 41


def test_a_card_that_falls_off_the_bus_costs_no_other(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    collector = open_amd(host)
    shutil.rmtree(host.root / DRM / "card1")

    assert indices(collector) == {"1"}


def test_a_card_that_is_powered_down_is_not_read(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    collector = open_amd(host)
    write(host, "card1/device/power/runtime_status", "suspended")

    assert indices(collector) == {"1"}


# What follows from counters


def test_intels_utilisation_is_the_time_that_its_engines_did_not_sleep(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("arc-xe")
    collector = open_intel(host)
    assert "gpu_0_utilization_percentage" not in collector.collect()

    advance(host, 10.0)
    write(host, "card1/device/tile0/gt0/gtidle/idle_residency_ms", 8123456 + 2500)
    readings = collector.collect()

    assert readings["gpu_0_utilization_percentage"] == pytest.approx(75.0)
    assert readings["gpu_1_utilization_percentage"] == pytest.approx(100.0)


def test_sleep_that_is_reported_late_makes_no_negative_utilisation(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("i915-laptop")
    collector = open_intel(host)
    collector.collect()

    advance(host, 1.0)
    write(host, "card1/gt/gt0/rc6_residency_ms", 4711000 + 1003)

    assert collector.collect()["gpu_0_utilization_percentage"] == 0.0


def test_a_gpu_of_two_tiles_is_as_busy_as_their_mean(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe")
    tile = host.root / DRM / "card1/device/tile1"
    shutil.copytree(host.root / DRM / "card1/device/tile0", tile)
    collector = open_intel(host)
    collector.collect()

    advance(host, 10.0)
    write(host, "card1/device/tile1/gt0/gtidle/idle_residency_ms", 8123456 + 10_000)
    assert collector.collect()["gpu_0_utilization_percentage"] == pytest.approx(50.0)

    advance(host, 10.0)
    (tile / "gt0/gtidle/idle_residency_ms").unlink()
    assert "gpu_0_utilization_percentage" not in collector.collect()
    assert devices_of(host)[0].memory_bytes == 2 * 17070817280


def test_intels_power_follows_from_its_energy(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe")
    collector = open_intel(host)
    assert "gpu_0_power_usage_watts" not in collector.collect()

    advance(host, 2.0)
    write(host, "card1/device/hwmon/hwmon5/energy2_input", 58214031250 + 2 * 95_000_000)
    readings = collector.collect()

    assert readings["gpu_0_power_usage_watts"] == pytest.approx(95.0)
    assert readings["gpu_0_power_usage_percentage"] == pytest.approx(50.0)
    assert readings["gpu_0/energy_joules"] == pytest.approx(190.0)


def test_amds_energy_is_estimated_from_its_power(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    collector = open_amd(host)
    assert collector.collect()["gpu_1/energy_estimated_joules"] == 0.0

    advance(host, 10.0)
    write(host, "card9/device/hwmon/hwmon5/power1_input", 338_000_000)
    assert collector.collect()["gpu_1/energy_estimated_joules"] == pytest.approx(2380.0)


def test_a_gpu_that_is_powered_down_uses_no_energy(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    status = "card9/device/power/runtime_status"
    collector = open_amd(host)
    collector.collect()

    write(host, status, "suspended")
    for _ in range(2):
        advance(host, 10.0)
        assert indices(collector) == {"0"}
    write(host, status, "active")
    advance(host, 10.0)

    # 138 W go down to nothing in 10 s, and come back in as long.
    readings = collector.collect()
    assert readings["gpu_1/energy_estimated_joules"] == pytest.approx(1380.0)


def test_a_counter_that_was_reset_or_has_hardly_moved_says_nothing(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("arc-xe")
    collector = open_intel(host)
    collector.collect()

    advance(host, 0.01)
    assert "gpu_0_power_usage_watts" not in collector.collect()
    advance(host, 1.0)
    write(host, "card1/device/hwmon/hwmon5/energy2_input", 0)
    assert "gpu_0_power_usage_watts" not in collector.collect()
    advance(host, 1.0)
    write(host, "card1/device/hwmon/hwmon5/energy2_input", 7_000_000)
    assert collector.collect()["gpu_0_power_usage_watts"] == pytest.approx(7.0)


def test_power_is_compared_with_the_limit_of_what_it_is_of(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe")
    write(host, "card1/device/hwmon/hwmon5/energy1_input", 1_000_000)
    collector = open_intel(host)
    collector.collect()
    advance(host, 1.0)
    write(host, "card1/device/hwmon/hwmon5/energy1_input", 51_000_000)

    readings = collector.collect()

    assert readings["gpu_0_power_usage_watts"] == pytest.approx(50.0)
    assert "gpu_0/power_limit_watts" not in readings  # it is the package's alone
    assert "gpu_0_power_usage_percentage" not in readings


def test_a_limit_without_energy_is_reported(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe")
    (host.root / DRM / "card1/device/hwmon/hwmon5/energy2_input").unlink()

    assert open_intel(host).collect()["gpu_0/power_limit_watts"] == 190.0


def test_energy_is_not_estimated_over_the_time_that_a_machine_slept(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("mi300x")
    collector = open_amd(host)
    collector.collect()
    for _ in range(4):
        advance(host, 10.0)
        collector.collect()

    advance(host, 28_800.0)

    assert collector.collect()["gpu_0/energy_estimated_joules"] == pytest.approx(40 * 641.0)


def test_utilisation_is_not_reported_of_the_time_that_a_machine_slept(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("arc-xe")
    collector = open_intel(host)
    collector.collect()
    for _ in range(4):
        advance(host, 10.0)
        assert collector.collect()["gpu_0_utilization_percentage"] == pytest.approx(100.0)

    advance(host, 28_800.0)
    assert "gpu_0_utilization_percentage" not in collector.collect()
    advance(host, 10.0)
    assert collector.collect()["gpu_0_utilization_percentage"] == pytest.approx(100.0)


def test_a_limit_of_zero_is_none(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe")
    write(host, "card1/device/hwmon/hwmon5/power2_max", 0)
    collector = open_intel(host)
    collector.collect()
    advance(host, 1.0)

    readings = collector.collect()

    assert "gpu_0/power_limit_watts" not in readings
    assert "gpu_0_power_usage_percentage" not in readings
    assert readings["gpu_0_power_usage_watts"] == 0.0


# Which count, and their numbers


def test_gpus_of_several_makers_have_numbers_of_their_own(copy_of: Callable[..., Host]) -> None:
    host = copy_of("nvidia-and-radeon")
    shutil.copytree(DATA / "arc-xe" / DRM / "card1", host.root / DRM / "card2")

    assert indices(open_amd(host)) == {"2"}
    assert indices(open_intel(host)) == {"3"}


def test_totals_are_of_the_first_makers_gpus(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    shutil.copytree(DATA / "arc-xe" / DRM / "card1", host.root / DRM / "card3")

    totals = open_amd(host).collect()

    assert totals["gpu/utilization_percentage"] == pytest.approx(48.5)
    assert totals["gpu/power_usage_watts"] == pytest.approx(779.0)
    assert totals["gpu/memory_usage_megabytes"] == pytest.approx(171498.136, abs=1e-3)
    assert not {name for name in open_intel(host).collect() if not name.startswith("gpu_2")}


def test_numbers_do_not_depend_on_what_is_visible(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", HIP_VISIBLE_DEVICES="1")

    assert indices(open_amd(host)) == {"1"}


def test_an_id_chooses_a_gpu(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", ROCR_VISIBLE_DEVICES="GPU-8d03b6f49c1e7a52")

    assert indices(open_amd(host)) == {"1"}


def test_all_gpus_count_if_the_user_wants_it(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", HIP_VISIBLE_DEVICES="1", MLFLOW_SYSMETRICS_GPUS="all")

    assert indices(open_amd(host)) == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "opener", "environ"),
    [
        ("mi300x", open_amd, {"HIP_VISIBLE_DEVICES": "1"}),
        ("arc-xe", open_intel, {"ZE_AFFINITY_MASK": "1"}),
    ],
)
def test_where_use_is_not_reported_what_is_visible_counts(
    name: str,
    opener: Callable[[Host], Collector],
    environ: dict[str, str],
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of(name, MLFLOW_SYSMETRICS_GPUS="used", **environ)

    assert indices(opener(host)) == {"1"}


# What the run's own processes use


def test_own_memory_is_that_of_the_process_tree(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    in_the_hosts_namespace(host)
    use_memory(host, os.getpid(), kfd_id=41214, used_bytes=3_000_000_000)
    use_memory(host, 1, kfd_id=41214, used_bytes=5_000_000_000)

    readings = open_amd(host).collect()

    assert readings["gpu_0/process_memory_megabytes"] == 3000.0
    assert readings["gpu_1/process_memory_megabytes"] == 0.0


def test_own_memory_may_be_that_of_another_tree(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    in_the_hosts_namespace(host)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        use_memory(host, os.getpid(), kfd_id=41214, used_bytes=3_000_000_000)
        use_memory(host, child.pid, kfd_id=41214, used_bytes=5_000_000_000)

        readings = open_amd(replace(host, pid=child.pid)).collect()

        child.communicate(b"\n")
    assert readings["gpu_0/process_memory_megabytes"] == 5000.0


def test_a_gpu_counts_from_when_it_is_used(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", HIP_VISIBLE_DEVICES="0", MLFLOW_SYSMETRICS_GPUS="used")
    in_the_hosts_namespace(host)
    collector = open_amd(host)
    use_memory(host, os.getpid(), kfd_id=9872, used_bytes=0)
    assert collector.collect() == {}

    use_memory(host, os.getpid(), kfd_id=9872, used_bytes=1_000_000)
    readings = collector.collect()
    assert indices(collector) == {"1"}
    assert readings["gpu/power_usage_watts"] == readings["gpu_1_power_usage_watts"]

    use_memory(host, os.getpid(), kfd_id=9872, used_bytes=0)
    assert indices(collector) == {"1"}


def test_in_a_pid_namespace_own_memory_is_not_reported_and_the_reason_is(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("mi300x")
    in_the_hosts_namespace(host, "pid:[4026532274]")
    use_memory(host, os.getpid(), kfd_id=41214, used_bytes=3_000_000_000)

    collector = open_amd(host)

    assert not [name for name in collector.collect() if "process" in name]
    assert "PID namespace of its own" in collector.notes()[0]


def test_a_process_that_is_shown_no_gpu_has_no_metrics(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", HIP_VISIBLE_DEVICES="-1")

    with pytest.raises(Unavailable, match="show this process no GPU"):
        open_amd(host)


@pytest.mark.parametrize(("number", "index"), [(0, "0"), (2, "0"), (1, "1"), (3, "1")])
def test_the_parts_of_a_gpu_are_counted_in_rocms_order(
    number: int, index: str, copy_of: Callable[..., Host]
) -> None:
    host = copy_of("mi300x", HIP_VISIBLE_DEVICES=str(number))
    for node, location_id in ((3, 0x10000500), (10, 0x2601)):
        add_kfd_node(host, node, location_id)

    assert indices(open_amd(host)) == {index}


def test_an_id_chooses_a_part(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", ROCR_VISIBLE_DEVICES="GPU-00000000000000ff")
    add_kfd_node(host, 3, 0x10002600, unique_id=255)

    assert indices(open_amd(host)) == {"1"}


def test_own_memory_is_that_in_all_parts(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    in_the_hosts_namespace(host)
    add_kfd_node(host, 3, 0x10000500)
    for kfd_id in (41214, 3):
        use_memory(host, os.getpid(), kfd_id, used_bytes=3_000_000)

    assert open_amd(host).collect()["gpu_0/process_memory_megabytes"] == 6.0


# In containers


@pytest.mark.parametrize(
    ("name", "opener"), [("mi300x", open_amd), ("arc-xe", open_intel)], ids=["amd", "intel"]
)
def test_what_is_passed_into_a_container_counts(
    name: str, opener: Callable[[Host], Collector], copy_of: Callable[..., Host]
) -> None:
    host = copy_of(name)
    pass_in(host, "renderD129")

    assert indices(opener(host)) == {"1"}
    everything = replace(host, environ={"MLFLOW_SYSMETRICS_GPUS": "all"})
    assert indices(opener(everything)) == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "opener", "environ"),
    [
        ("mi300x", open_amd, {"ROCR_VISIBLE_DEVICES": "0"}),
        ("arc-xe", open_intel, {"ZE_AFFINITY_MASK": "0"}),
    ],
)
def test_variables_number_what_is_passed_into_a_container(
    name: str,
    opener: Callable[[Host], Collector],
    environ: dict[str, str],
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of(name, **environ)
    pass_in(host, "renderD129")

    assert indices(opener(host)) == {"1"}


def test_a_gpu_that_the_control_group_denies_is_not_counted(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", ROCR_VISIBLE_DEVICES="0")
    deny(host, node=1)

    assert indices(open_amd(host)) == {"1"}


def test_totals_are_of_what_is_passed_into_a_container(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    pass_in(host, "renderD129")

    assert open_amd(host).collect()["gpu/power_usage_watts"] == pytest.approx(138.0)


def test_a_part_that_is_passed_into_a_container_stands_for_its_gpu(
    copy_of: Callable[..., Host],
) -> None:
    host = copy_of("mi300x")
    add_kfd_node(host, 3, 0x10002600, minor=135)
    pass_in(host, "renderD135")

    assert indices(open_amd(host)) == {"1"}


def test_where_nothing_is_passed_in_all_count(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x")
    pass_in(host, "renderD200")

    assert indices(open_amd(host)) == {"0", "1"}


def test_a_gpu_that_kfd_lacks_is_used_if_it_is_visible(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", MLFLOW_SYSMETRICS_GPUS="used")
    in_the_hosts_namespace(host)
    shutil.rmtree(host.sysfs / "class/kfd")
    pass_in(host, "renderD129")

    collector = open_amd(host)

    assert indices(collector) == {"1"}
    assert collector.notes() == [
        "which processes use GPU 1 is not known: the kernel's compute driver (KFD) lacks it",
        "GPU 1 does not report fan_speed_percentage: the driver shows no file for it",
    ]


def test_a_gpu_that_is_denied_is_not_used(copy_of: Callable[..., Host]) -> None:
    host = copy_of("mi300x", MLFLOW_SYSMETRICS_GPUS="used")
    in_the_hosts_namespace(host)
    deny(host, node=1)
    use_memory(host, os.getpid(), kfd_id=9872, used_bytes=1_000_000)

    assert indices(open_amd(host)) == {"1"}


def test_rocm_counts_what_is_part_of_the_cpu_too(copy_of: Callable[..., Host]) -> None:
    host = copy_of("radeon-and-apu", HIP_VISIBLE_DEVICES="1")

    with pytest.raises(Unavailable, match="show this process no GPU"):
        open_amd(host)


def test_level_zero_counts_what_is_part_of_the_cpu_last(copy_of: Callable[..., Host]) -> None:
    host = copy_of("arc-xe", ZE_AFFINITY_MASK="0")
    shutil.copytree(DATA / "i915-laptop" / DRM / "card1", host.root / DRM / "card0")

    assert indices(open_intel(host)) == {"0"}
    assert devices_of(host)[0].name == "Intel Arc A770"
