from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup import (
    Limits,
    count_allowed_cpus,
    count_cpus,
    parse_bytes_limit,
    parse_cpu_max,
    read_limits,
    read_memory_bound,
)
from mlflow_sysmetrics.sources.cgroup_paths import (
    UNIFIED,
    CgroupMount,
    find_cgroup,
    parse_cgroup,
    parse_mountinfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = sorted(path.parent for path in Path(__file__).parents[2].glob("data/hosts/*/cgroup.json"))
MOUNT = "35 31 0:32 {root} {at} rw,relatime shared:9 - {kind} none {options}\n"


def write(root: Path, **files: str) -> Host:
    """A host with files; `__` stands for a slash in their names."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root=root, system="Linux", environ={})


def v2(root: str, at: str = "/sys/fs/cgroup") -> str:
    return MOUNT.format(root=root, at=at, kind="cgroup2", options="rw")


def v1(root: str, controllers: str, at: str) -> str:
    return MOUNT.format(root=root, at=at, kind="cgroup", options=f"rw,{controllers}")


@pytest.mark.parametrize("root", HOSTS, ids=lambda root: root.name)
def test_limits_of_a_recorded_host(root: Path) -> None:
    golden = json.loads((root / "cgroup.json").read_text())

    assert read_limits(Host(root=root, system="Linux", environ={})) == Limits(**golden["limits"])


def test_there_are_recorded_hosts() -> None:
    assert len(HOSTS) >= 7


def test_only_linux_has_limits() -> None:
    root = next(host for host in HOSTS if host.name == "docker-v2")

    assert read_limits(Host(root=root, system="Darwin")) == Limits()


def test_nothing_to_read_is_no_limit(tmp_path: Path) -> None:
    assert read_limits(Host(root=tmp_path, system="Linux")) == Limits()


def test_garbage_is_no_limit(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="0::/\n",
        proc__self__mountinfo=v2("/"),
        proc__self__status="Cpus_allowed_list:\tall of them\n",
        proc__meminfo="MemTotal: plenty\n",
    )
    groups = tmp_path / "sys/fs/cgroup"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("a lot\n")
    (groups / "cpu.max").write_text("max\n")
    (groups / "cpuset.cpus.effective").write_text("9-1\n")

    assert read_limits(host) == Limits()


def test_a_limit_of_all_that_the_host_has_is_none(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="0::/\n",
        proc__self__mountinfo=v2("/"),
        proc__meminfo="MemTotal:       1000 kB\n",
        sys__devices__system__cpu__online="0-1\n",
    )
    groups = tmp_path / "sys/fs/cgroup"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("1024000\n")
    (groups / "cpu.max").write_text("200000 100000\n")

    assert read_limits(host) == Limits()

    (groups / "memory.max").write_text("1019904\n")
    (groups / "cpu.max").write_text("199000 100000\n")

    assert read_limits(host) == Limits(cpus=1.99, memory_bytes=1019904)


def test_the_affinity_bounds(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__status="Name:\tx\nCpus_allowed_list:\t0,2-3\n",
        sys__devices__system__cpu__online="0-3\n",
    )

    assert read_limits(host) == Limits(cpus=3.0)


def test_another_process_has_its_own_limits(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="0::/\n",
        proc__self__mountinfo=v2("/"),
        proc__77__cgroup="0::/small\n",
        sys__fs__cgroup__small__marker="",
    )
    (tmp_path / "sys/fs/cgroup/small/memory.max").write_text("4096\n")

    assert read_limits(replace(host, pid=77)).memory_bytes == 4096
    assert read_limits(host).memory_bytes is None


def test_the_tightest_of_the_ancestors_bounds(tmp_path: Path) -> None:
    host = write(tmp_path, proc__self__cgroup="0::/a/b/c\n", proc__self__mountinfo=v2("/"))
    for group, limit in {"a": "3000", "a/b": "1000", "a/b/c": "2000"}.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(limit)

    bound = read_memory_bound(host)

    assert bound is not None
    assert (bound.value, bound.directory) == (1000, tmp_path / "sys/fs/cgroup/a/b")


# Where a group is


@pytest.mark.parametrize(
    ("group", "mounts", "controller", "expected"),
    [
        pytest.param("0::/a/b", v2("/"), "cpu", ["a/b", "a", ""], id="all is shown"),
        pytest.param("0::/", v2("/"), "cpu", [""], id="a namespace"),
        pytest.param("0::/a/b", v2("/a"), "cpu", ["b", ""], id="a part is mounted"),
        pytest.param("0::/a/b", v2("/a/b"), "cpu", [""], id="the group itself is mounted"),
        pytest.param("0::/", v2("/docker/x"), "cpu", [""], id="a root that has no name here"),
        pytest.param("0::/ab", v2("/a"), "cpu", [""], id="a like beginning is not the group"),
        pytest.param("0::/a (deleted)", v2("/"), "cpu", ["a", ""], id="a removed group"),
    ],
)
def test_a_group_of_version_2_is_found(
    tmp_path: Path, group: str, mounts: str, controller: str, expected: list[str]
) -> None:
    host = write(tmp_path, proc__self__cgroup=group + "\n", proc__self__mountinfo=mounts)

    cgroup = find_cgroup(host, controller)

    assert cgroup.version == 2
    assert list(cgroup.directories) == [tmp_path / "sys/fs/cgroup" / each for each in expected]


def test_version_1_governs_where_it_has_the_controller(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="4:memory:/m\n2:cpu,cpuacct:/c\n0::/u\n",
        proc__self__mountinfo=v1("/", "memory", "/cg/memory")
        + v1("/", "cpu,cpuacct", "/cg/cpu")
        + v2("/", "/cg/unified"),
    )

    found = {name: find_cgroup(host, name) for name in ("memory", "cpuacct", "io", UNIFIED)}

    assert {name: (each.version, each.directories[0]) for name, each in found.items()} == {
        "memory": (1, tmp_path / "cg/memory/m"),
        "cpuacct": (1, tmp_path / "cg/cpu/c"),
        "io": (2, tmp_path / "cg/unified/u"),
        UNIFIED: (2, tmp_path / "cg/unified/u"),
    }


def test_the_mount_that_shows_most_ancestors_is_taken(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="0::/docker/x\n",
        proc__self__mountinfo=v2("/docker/x") + v2("/", "/host/cgroup"),
    )

    assert len(find_cgroup(host, "cpu").directories) == 3


@pytest.mark.parametrize(
    ("group", "mounts"),
    [
        pytest.param("4:memory:/\n", v2("/"), id="no group of version 2"),
        pytest.param("0::/\n", "", id="not mounted"),
        pytest.param("0::/../other\n", v2("/"), id="outside of the namespace"),
        pytest.param("0:/\n", v2("/"), id="garbage"),
        pytest.param("0::/\n", "garbage\n", id="garbage mounts"),
    ],
)
def test_a_group_is_not_found(tmp_path: Path, group: str, mounts: str) -> None:
    host = write(tmp_path, proc__self__cgroup=group, proc__self__mountinfo=mounts)

    with pytest.raises(Unavailable):
        find_cgroup(host, "cpu")


# Parsers


def test_a_group_may_have_a_colon_in_its_name() -> None:
    assert parse_cgroup("7:cpu,cpuacct:/a:b\n0::/c\n") == {
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        UNIFIED: "/c",
    }


def test_mounts_of_other_kinds_are_left_out_and_blanks_are_unescaped() -> None:
    text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n" + v2("/", r"/my\040groups")

    assert parse_mountinfo(text) == [CgroupMount("/", "/my groups", frozenset({UNIFIED}))]


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("536870912", 536870912),
        ("0", 0),
        ("max", None),
        ("9223372036854771712", None),
        ("9223372036854710272", None),
    ],
)
def test_memory_limits(text: str, limit: int | None) -> None:
    assert parse_bytes_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "cpus"), [("150000 100000", 1.5), ("max 100000", None), ("0 100000", None)]
)
def test_cpu_quotas(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3,8", 5), ("", 0), ("4-4,6\n", 2)])
def test_cpu_lists(text: str, count: int) -> None:
    assert count_cpus(text) == count


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_bytes_limit, "-1"),
        (parse_bytes_limit, "1_000"),
        (parse_cpu_max, "100000"),
        (parse_cpu_max, "a b"),
        (count_cpus, "3-1"),
        (count_cpus, "0-"),
        (count_cpus, "x"),
        (count_allowed_cpus, "Name:\tx\n"),
    ],
)
def test_other_text_is_an_error(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)
