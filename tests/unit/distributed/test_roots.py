"""Real processes: launchers, wrappers and ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from mlflow_sysmetrics.distributed.job import Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS, Launcher
from mlflow_sysmetrics.distributed.roots import RankRoots, launcher_of, roll_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RANK = """
import sys
from mlflow_sysmetrics.distributed.claim import Claim
visit = Claim(sys.argv[1], "roll of key").visit()
print(visit is not None, flush=True)
sys.stdin.read()
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux'")


def job_of(name: str) -> Job:
    launcher = next(each for each in LAUNCHERS if each.name == name)
    return Job(launcher, rank=0, size=2, nodes=1, node=0, key="key", recurs=True)


@pytest.fixture
def here() -> str:
    return uuid.uuid4().hex


@contextmanager
def rank_under_wrapper(environ: dict[str, str]) -> Iterator[int]:
    """A process with these variables below a shell that has them, too; gives its pid."""
    # A shell that waits: `exec` would replace it.
    command = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(
        command, env=os.environ | environ, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            yield pid
        finally:
            psutil.Process(pid).kill()


@pytest.mark.skipif(sys.platform == "win32", reason="starts a shell")
def test_the_launcher_is_the_nearest_ancestor_without_a_ranks_variables() -> None:
    environ = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"}

    with rank_under_wrapper(environ) as pid:
        assert launcher_of(job_of("torchrun"), pid) == os.getpid()


def test_a_raylet_is_no_launcher_for_it_starts_others_too() -> None:
    assert launcher_of(job_of("Ray Train")) is None


def test_the_script_that_spawned_its_ranks_is_the_launcher() -> None:
    spawn = Launcher("torch.multiprocessing.spawn", (), (), (), ())
    job = Job(spawn, rank=0, size=2, nodes=1, node=0, key=None, recurs=True)

    assert launcher_of(job) == os.getppid()


def test_the_daemon_of_a_step_is_a_launcher_whose_environment_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Daemon:
        pid = 4711

        def name(self) -> str:
            return "slurmstepd"

        def environ(self) -> dict[str, str]:
            raise psutil.AccessDenied

    class Task:
        def parents(self) -> list[Daemon]:
            return [Daemon()]

    monkeypatch.setattr(psutil, "Process", lambda _pid: Task())

    assert launcher_of(job_of("srun")) == 4711


@on_linux
def test_ranks_without_a_common_launcher_report_to_the_one_that_samples(here: str) -> None:
    sampling = RankRoots(job_of("Ray Train"), here)
    assert sampling.hold()
    command = [sys.executable, "-c", RANK, here]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "True\n"

        assert sampling.pids() == [rank.pid]
        assert sampling.pids() == [rank.pid]
    sampling.release()


@on_linux
def test_one_process_of_a_host_samples_for_a_job(here: str) -> None:
    first, second = RankRoots(job_of("torchrun"), here), RankRoots(job_of("torchrun"), here)

    assert first.hold()
    assert not second.hold()
    first.release()
    assert second.hold()
    second.release()


@on_linux
def test_a_rank_notices_that_the_one_that_samples_has_ended(here: str) -> None:
    sampling = RankRoots(job_of("Ray Train"), here)
    sampling.hold()
    visit = roll_of(job_of("Ray Train"), here).visit()
    assert visit is not None
    sampling.pids()
    with pytest.raises(BlockingIOError):
        visit.recv(1)

    sampling.release()

    assert visit.recv(1) == b""
    visit.close()
