"""A file system whose server stops answering: psutil#1931, glances#3290, sysinfo#842.

The working directory is on a FUSE file system, as of sshfs, gcsfuse or JuiceFS, that hangs when
the test says so. The kernel does not interrupt a call on it, and a thread in one keeps its process
from ending.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from fakes import hanging_mount
from fakes.waiting import eventually, is_gone

if TYPE_CHECKING:
    from pathlib import Path

ROOT, WORKING = "system/disk_usage_percentage", "system/disk/working_directory_usage_percentage"
NEVER_ASKS_THE_MOUNT = "system/cpu/load_average_1m"


@cache
def _namespace() -> tuple[str, ...]:
    """A command that gives another one mounts of its own; empty where that is not allowed."""
    options = ["--mount", "--propagation", "private"]
    if os.geteuid():
        options = ["--user", "--map-root-user", *options]
    command = ("unshare", *options)
    may = os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("unshare") is not None
    if may and subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
        return command
    return ()


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="mounts are looked up on Linux alone"),
    pytest.mark.skipif(not _namespace(), reason="needs /dev/fuse and the right to mount"),
    pytest.mark.usefixtures("nothing_said"),
]


class Training:
    """A script run with its working directory on the mount."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.hangs = folder / "hangs"
        self.told = folder / "told.json"
        self.spool = folder / "spool"
        self._folder = folder
        self._database = shutil.copy(database, folder / "store.db")

    def run(self, script: str, *namespace: str) -> subprocess.CompletedProcess[str]:
        mount_point = self._folder / "mnt"
        mount_point.mkdir()
        path = self._folder / "train.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        command = [sys.executable, hanging_mount.__file__, str(mount_point), str(self.hangs)]
        environ = {
            **os.environ,
            "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
            "MLFLOW_SYSMETRICS_SPOOL_DIR": str(self.spool),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self._database}",
            "HANGS": str(self.hangs),
            "TOLD": str(self.told),
        }
        return subprocess.run(
            [*_namespace(), *command, *namespace, sys.executable, str(path)],
            env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def tags(self) -> dict[str, str]:
        return dict(self._rows("SELECT key, value FROM tags"))

    def values(self, key: str) -> dict[float, float]:
        """By the time, in seconds."""
        rows = self._rows("SELECT timestamp, value FROM metrics WHERE key = ?", key)
        return {time_ms / 1000: value for time_ms, value in rows}

    def _rows(self, query: str, *arguments: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            return database.execute(query, arguments).fetchall()

    def answer(self) -> dict[str, float]:
        answer: dict[str, float] = json.loads(self.told.read_text())
        return answer


PRELUDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
import mlflow, psutil
from mlflow_sysmetrics.host import file_helper

hangs = Path(os.environ["HANGS"])

def tell(**answers):
    Path(os.environ["TOLD"]).write_text(json.dumps(answers))

def helper():
    while not file_helper.helper_pids():
        time.sleep(0.01)
    (pid,) = file_helper.helper_pids()
    return pid
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by a process of its own: SQLAlchemy 2.1 warns of what MLflow does."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    script = f"import mlflow; mlflow.MlflowClient('sqlite:///{path}').search_experiments()"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return path


@pytest.fixture
def training(tmp_path: Path, database: Path) -> Training:
    return Training(tmp_path, database)


def test_a_program_ends_though_its_working_directory_hangs(training: Training) -> None:
    ended = training.run("""
        with mlflow.start_run():
            time.sleep(1.5)
            hangs.touch()
            tell(hung_s=time.time())
            time.sleep(4)
    """)

    assert ended.returncode == 0, ended.stderr
    hung_s = training.answer()["hung_s"]
    for key in (ROOT, NEVER_ASKS_THE_MOUNT):
        assert sum(time_s > hung_s + 1 for time_s in training.values(key)) >= 3
    working = training.values(WORKING)
    assert working
    assert max(working) < hung_s + 1
    (message,) = [line for line in ended.stderr.splitlines() if "does not answer" in line]
    assert "mnt (fuse.hang)" in message
    assert "system/disk/working_directory_* metrics are missing" in message


def test_metrics_of_the_mount_come_back_when_it_answers_again(training: Training) -> None:
    ended = training.run("""
        with mlflow.start_run():
            time.sleep(1)
            hangs.touch()
            time.sleep(1.5)
            hangs.unlink()
            tell(back_s=time.time())
            time.sleep(3)
    """)

    assert ended.returncode == 0, ended.stderr
    back_s = training.answer()["back_s"]
    assert sum(time_s > back_s for time_s in training.values(WORKING)) >= 2
    assert set(training.values(WORKING).values()) == {60.0}
    assert training.tags()["sys.disk_total_gb"] == "4.1"


def test_a_run_opens_and_ends_where_the_mount_hangs_already(training: Training) -> None:
    ended = training.run("""
        providers = os.environ.pop("MLFLOW_RUN_CONTEXT_PROVIDER")
        with mlflow.start_run():  # MLflow itself looks for git in the working directory, once
            pass
        os.environ["MLFLOW_RUN_CONTEXT_PROVIDER"] = providers
        hangs.touch()
        with mlflow.start_run():
            time.sleep(3)
    """)

    assert ended.returncode == 0, ended.stderr
    tags = training.tags()
    assert "sys.os" in tags
    assert "sys.disk_total_gb" not in tags
    assert "mnt (fuse.hang) does not answer" in tags["sysmetrics.error"]
    assert len(training.values(ROOT)) >= 3
    assert not training.values(WORKING)


def test_doctor_ends_and_says_what_does_not_answer(training: Training) -> None:
    ended = training.run("""
        hangs.touch()
        doctor = Path(sys.executable).with_name("mlflow-sysmetrics")
        sys.exit(subprocess.run([doctor, "doctor"]).returncode)
    """)

    assert ended.returncode in {0, 1}, ended.stderr
    assert "mnt (fuse.hang) does not answer" in ended.stdout


def test_the_users_code_has_no_child_of_ours_to_wait_for(training: Training) -> None:
    ended = training.run("""
        with mlflow.start_run():
            process = psutil.Process(helper())
            try:
                os.wait()
                waited = 1
            except ChildProcessError:
                waited = 0
            time.sleep(1)
            tell(
                waited=waited,
                is_at_root=os.readlink(f"/proc/{process.pid}/cwd") == "/",
                descriptors=process.num_fds(),
                children=len(psutil.Process().children(recursive=True)),
            )
    """)

    assert ended.returncode == 0, ended.stderr
    assert training.answer() == {"waited": 0, "is_at_root": True, "descriptors": 3, "children": 0}
    assert set(training.values("system/process/num_processes").values()) == {1.0}


def test_a_program_ends_though_the_store_is_away_and_the_spool_hangs(training: Training) -> None:
    ended = training.run("""
        os.environ["MLFLOW_SYSMETRICS_SPOOL_DIR"] = os.path.abspath("spool")
        mlflow.start_run()
        time.sleep(1)
        database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
        database.unlink()
        database.mkdir()
        hangs.touch()
        time.sleep(1)
    """)

    assert ended.returncode != hanging_mount.STILL_RUNS
    assert "cannot be kept on disk" in ended.stderr
    assert "mnt (fuse.hang) does not answer" in ended.stderr


def test_a_helper_is_not_counted_where_the_program_is_the_first_of_a_container(
    training: Training,
) -> None:
    ended = training.run(
        """
        with mlflow.start_run():
            parent = psutil.Process(helper()).ppid()
            time.sleep(1)
            tell(parent=parent, own=os.getpid())
        """,
        "unshare", "--pid", "--fork", "--mount-proc",
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert training.answer() == {"parent": 1, "own": 1}
    assert set(training.values("system/process/num_processes").values()) == {1.0}


@pytest.mark.parametrize("is_hung", [False, True])
def test_a_killed_program_leaves_no_helper_behind(training: Training, is_hung: bool) -> None:  # noqa: FBT001 - a parameter
    ended = training.run(f"""
        with mlflow.start_run():
            pid = helper()
            time.sleep(1)
            if {is_hung}:
                hangs.touch()
                time.sleep(1)
            if not os.fork():
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(1, 2)
                time.sleep(10)  # a worker that outlives it
            tell(helper=pid)
            os.kill(os.getpid(), signal.SIGKILL)
    """)

    assert ended.returncode not in {0, hanging_mount.STILL_RUNS}, ended.stderr
    assert eventually(lambda: is_gone(int(training.answer()["helper"])))
