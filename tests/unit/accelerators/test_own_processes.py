from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses, open_own_processes
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_root_and_what_descends_from_it_are_in(child: subprocess.Popen[bytes]) -> None:
    own = OwnProcesses(os.getpid())

    assert own.has(os.getpid())
    assert own.has(child.pid)
    assert not own.has(os.getppid())


def test_another_tree_is_another(child: subprocess.Popen[bytes]) -> None:
    own = OwnProcesses(child.pid)

    assert own.has(child.pid)
    assert not own.has(os.getpid())


def test_another_rank_is_in_from_when_it_is_known(child: subprocess.Popen[bytes]) -> None:
    ranks: list[int] = []
    own = OwnProcesses(child.pid, lambda: ranks)
    assert not own.has(os.getpid())

    ranks.append(os.getpid())

    assert own.has(os.getpid())


def test_who_was_in_stays_in_whoever_becomes_its_parent(
    child: subprocess.Popen[bytes], mocker: MockerFixture
) -> None:
    own = OwnProcesses(os.getpid())
    assert own.has(child.pid)
    mocker.patch.object(psutil.Process, "parents", return_value=[])

    assert own.has(child.pid)


def test_a_number_that_was_given_out_anew_is_looked_at_anew(
    child: subprocess.Popen[bytes], mocker: MockerFixture
) -> None:
    own = OwnProcesses(os.getpid())
    assert own.has(child.pid)
    mocker.patch.object(psutil.Process, "create_time", return_value=12345.0)
    mocker.patch.object(psutil.Process, "parents", return_value=[])

    assert not own.has(child.pid)


def test_who_has_ended_is_not_in(child: subprocess.Popen[bytes]) -> None:
    own = OwnProcesses(os.getpid())
    pid = child.pid
    child.communicate(b"\n")

    assert not own.has(pid)


def test_outside_containers_this_process_is_the_root(outside_containers: Path) -> None:
    own = open_own_processes(Host(root=outside_containers, system="Linux"))

    assert own.has(os.getpid())


@pytest.mark.parametrize("link", ["pid:[4026532447]", None])
def test_in_a_pid_namespace_nothing_is_known(tmp_path: Path, link: str | None) -> None:
    if link is not None:
        namespaces = tmp_path / "proc/self/ns"
        namespaces.mkdir(parents=True)
        (namespaces / "pid").symlink_to(link)

    with pytest.raises(Unavailable, match="PID namespace"):
        open_own_processes(Host(root=tmp_path, system="Linux"))


def test_windows_has_no_namespaces(tmp_path: Path) -> None:
    assert open_own_processes(Host(root=tmp_path, system="Windows")).has(os.getpid())
