"""Fixtures for all tests: hardware that this machine need not have."""

from __future__ import annotations

import os
import sys
import uuid
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import pytest

from fakes.fake_nvml import FakeNvml
from mlflow_sysmetrics import log as notices
from mlflow_sysmetrics.delivery import uploader
from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.host import forks
from mlflow_sysmetrics.host.forks import ForkOrder
from mlflow_sysmetrics.sampling import sampler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakes.fake_nvml import FakeGpu
    from mlflow_sysmetrics.host.forks import Worker

NEED_POSIX = ("unit/test_compare.py", "unit/cli/test_watch.py")
"""They import what Windows does not have."""

collect_ignore = [*NEED_POSIX] if sys.platform == "win32" else []


@pytest.fixture
def install_nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Put a fake `pynvml` with the given GPUs where `import pynvml` finds it."""

    def install(*gpus: FakeGpu) -> FakeNvml:
        nvml = FakeNvml(*gpus)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return install


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads end with the last run, so that a test can wait for it."""
    monkeypatch.setattr(sampler, "LINGER_S", 0.0)
    monkeypatch.setattr(uploader, "LINGER_S", 0.0)


@pytest.fixture(autouse=True)
def _own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test, not even one that runs beside, competes for the runs of this one."""
    name = uuid.uuid4().hex
    monkeypatch.setattr(domain, "sampling_domain", lambda _host: name)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script named `tool` on the PATH; it may write its pid to the path returned."""
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install_script(script: str) -> Path:
        executable = tmp_path / "tool"
        executable.write_text(f"#!/bin/sh\npid_file='{pid_file}'\n{script}\n")
        executable.chmod(0o755)
        return pid_file

    return install_script


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let warnings that an earlier test has caused be said again."""
    monkeypatch.setattr(notices, "_said", set())


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits only for those of the test itself."""
    workers: dict[ForkOrder, WeakValueDictionary[int, Worker]] = {
        turn: WeakValueDictionary() for turn in ForkOrder
    }
    monkeypatch.setattr(forks, "_workers", workers)


@pytest.fixture
def outside_containers(tmp_path: Path) -> Path:
    """A root under which this process is in the PID namespace that the machine started with."""
    namespaces = tmp_path / "proc/self/ns"
    namespaces.mkdir(parents=True)
    (namespaces / "pid").symlink_to("pid:[4026531836]")
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that MLflow has set up, which takes it a while."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - slow, and needed by few tests

    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
