from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.amd.kfd import Node, parse_node, read_memory_by_pid, read_nodes
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError

MI300X = Path(__file__).parents[3] / "data/gpus/mi300x"


def test_a_node_reports_what_it_is_and_where() -> None:
    text = "simd_count 440\nlocation_id 33536\ndomain 2\ndrm_render_minor 130\nunique_id 255\n"

    assert parse_node("7", text) == Node("7", "0002:83:00", "renderD130", "GPU-00000000000000ff")


def test_a_node_may_have_neither_a_file_nor_an_id() -> None:
    text = "location_id 1280\ndrm_render_minor 0\nunique_id 0\n"

    assert parse_node("7", text) == Node("7", "0000:05:00", None, None)


@pytest.mark.parametrize("location_id", [0x0500, 0x0503, 0x0507, 0x10000500, 0x70000500])
def test_parts_of_a_gpu_are_in_one_slot(location_id: int) -> None:
    assert parse_node("7", f"location_id {location_id}\n").slot == "0000:05:00"


@pytest.mark.parametrize("text", ["", "location_id x\n", "domain 0\n"])
def test_a_node_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_node("7", text)


def test_gpus_are_reported_in_the_order_of_their_nodes(tmp_path: Path) -> None:
    shutil.copytree(MI300X, tmp_path / "host")
    nodes = tmp_path / "host/sys/class/kfd/kfd/topology/nodes"
    shutil.copytree(nodes / "1", nodes / "10")
    (nodes / "10/gpu_id").write_text("41215\n")
    host = Host(root=tmp_path / "host", system="Linux")

    assert [node.kfd_id for node in read_nodes(host)] == ["41214", "9872", "41215"]


def test_a_gpu_that_the_kernel_keeps_from_the_process_is_not_reported(tmp_path: Path) -> None:
    shutil.copytree(MI300X, tmp_path / "host")
    node = tmp_path / "host/sys/class/kfd/kfd/topology/nodes/1"
    for name in ("gpu_id", "properties"):
        (node / name).unlink()
        (node / name).mkdir()  # so that reading it fails, for root too

    assert [each.kfd_id for each in read_nodes(Host(root=tmp_path / "host"))] == ["9872"]


def test_memory_of_a_gpus_parts_is_added_up(tmp_path: Path) -> None:
    host = Host(root=tmp_path, system="Linux")
    for kfd_id, used in (("41214", "100"), ("41215", "20"), ("9872", "3")):
        path = host.sysfs / f"class/kfd/kfd/proc/4711/vram_{kfd_id}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(used)

    assert read_memory_by_pid(host, ["41214", "41215"]) == {4711: 120}
