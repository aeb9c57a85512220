from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.waiting import eventually
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import proc_clock
from mlflow_sysmetrics.sources.proc_clock import has_cpu_clocks, process_clock_ns

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these clocks are Linux's")


def test_the_own_clock_is_that_of_the_process() -> None:
    before_ns = time.process_time_ns()
    clock_ns = process_clock_ns(os.getpid())
    assert clock_ns is not None
    assert before_ns <= clock_ns <= time.process_time_ns()


def test_a_process_that_waits_stands_still_and_one_that_is_gone_has_no_clock() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_SLEEPING)
        asleep_ns = process_clock_ns(child.pid)
        assert asleep_ns == process_clock_ns(child.pid)

        child.communicate(b"\n")

    assert process_clock_ns(child.pid) is None


def test_there_are_none_for_a_recorded_host(tmp_path: Path) -> None:
    assert has_cpu_clocks(Host())
    assert not has_cpu_clocks(Host(root=tmp_path))


@pytest.mark.parametrize("reading_ns", [None, 10_000_000])
def test_clocks_that_are_absent_or_coarse_are_not_used(
    mocker: MockerFixture, reading_ns: int | None
) -> None:
    mocker.patch.object(proc_clock, "process_clock_ns", return_value=reading_ns)
    assert not has_cpu_clocks(Host())


def test_there_are_none_where_proc_numbers_otherwise(mocker: MockerFixture) -> None:
    mocker.patch("os.readlink", return_value="1")
    assert not has_cpu_clocks(Host())
