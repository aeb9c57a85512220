"""The command `upload`, on real stores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from fakes.scripted_store import OPENED_MS, ScriptedStore, samples
from mlflow_sysmetrics import settings
from mlflow_sysmetrics.cli.main import main
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, InvalidPoints, RunNotFound
from mlflow_sysmetrics.delivery.spool import Spool, owned_files, spool_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from unittest.mock import Mock

    from click.testing import Result
    from pytest_mock import MockerFixture

# MLflow's use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

OWNS = """
import sys
from pathlib import Path
from mlflow_sysmetrics.delivery.spool import Spool
spool = Spool.adopt(Path(sys.argv[1]))
print("ready", flush=True)
input()
"""


class Bench:
    """A folder with leftovers, a store that they are for, and pauses that take no time."""

    def __init__(self, folder: Path, tracking_uri: str, sleep: Mock) -> None:
        self.folder = folder
        self.sleep = sleep
        self.tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri)

    def new_run(self) -> str:
        return str(self.client.create_run("0").info.run_id)

    def leave(
        self,
        run_id: str,
        *steps: int,
        first_step: int | None = 0,
        tracking_uri: str | None = None,
    ) -> Path:
        address = RunAddress(run_id, tracking_uri or self.tracking_uri, "system/")
        spool = Spool.create(self.folder, address, first_step, {"sys.cpu": "EPYC"})
        spool.append(samples(steps))
        spool.release()
        return spool.path

    def stored(self, run_id: str) -> list[tuple[int, float, int]]:
        """Step, value, and seconds of all points that the store has."""
        history = self.client.get_metric_history(run_id, "system/key")
        return sorted((m.step, m.value, (m.timestamp - OPENED_MS) // 1000) for m in history)

    def upload(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["upload", *arguments], prog_name="mlflow-sysmetrics")


@pytest.fixture(params=["sqlite", "file"])
def bench(
    request: pytest.FixtureRequest,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
) -> Iterator[Bench]:
    """On both a store that knows a point when it comes again, and one that does not."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("MLFLOW_SYSMETRICS_SPOOL_DIR", str(folder))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        shutil.copy(empty_database, tmp_path / "runs.db")
        tracking_uri = f"sqlite:///{tmp_path}/runs.db"
    else:
        tracking_uri = str(tmp_path / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    sleep = mocker.patch("mlflow_sysmetrics.cli.upload.time.sleep")
    yield Bench(folder, tracking_uri, sleep)
    owned_files.disown_all()


def points(*steps: int) -> list[tuple[int, float, int]]:
    return [(step, float(step), step) for step in steps]


# Sending


def test_what_waits_is_sent_and_its_file_deleted(bench: Bench) -> None:
    runs = [bench.new_run() for _ in range(2)]
    bench.leave(runs[0], 0, 1, 2)
    bench.leave(runs[1], 0)
    bench.leave(runs[0], 7, 8)

    result = bench.upload()

    assert result.exit_code == 0
    assert bench.stored(runs[0]) == points(0, 1, 2, 7, 8)
    assert bench.stored(runs[1]) == points(0)
    assert f"run {runs[0]} on {bench.tracking_uri}: 3 samples sent" in result.output
    assert f"run {runs[1]} on {bench.tracking_uri}: 1 samples sent" in result.output
    assert list(bench.folder.iterdir()) == []


def test_more_than_one_batch_is_sent(bench: Bench) -> None:
    run = bench.new_run()
    bench.leave(run, *range(2300))

    result = bench.upload()

    assert result.exit_code == 0
    assert bench.stored(run) == points(*range(2300))


def test_what_is_uploaded_twice_is_stored_once(bench: Bench) -> None:
    run = bench.new_run()
    path = bench.leave(run, 0, 1, 2)
    content = path.read_bytes()
    bench.upload()
    path.write_bytes(content)

    assert "0 of 3 samples would be sent" in bench.upload("--dry-run").output
    result = bench.upload()

    assert result.exit_code == 0
    assert bench.stored(run) == points(0, 1, 2)
    assert not path.exists()


@pytest.mark.parametrize("later", [(), (70, 71)], ids=["alone", "and a later opening's"])
def test_what_the_store_has_the_first_of_is_made_whole(
    bench: Bench, later: tuple[int, ...]
) -> None:
    run = bench.new_run()
    for step in (0, 1, 2, *later):
        bench.client.log_metric(run, "system/key", float(step), OPENED_MS + 1000 * step, step)
    bench.leave(run, *range(6))

    assert "3 of 6 samples would be sent" in bench.upload("--dry-run").output
    bench.upload()

    assert bench.stored(run) == points(*range(6), *later)


def test_a_file_that_is_all_sent_is_deleted(bench: Bench) -> None:
    path = bench.leave(bench.new_run(), 0, 1)
    spool = Spool.adopt(path)
    spool.mark(sent_to=2)
    spool.release()

    result = bench.upload()

    assert "all was sent before" in result.output
    assert not path.exists()


def test_a_resumed_run_that_could_not_be_asked_goes_on_after_its_last_step(bench: Bench) -> None:
    run = bench.new_run()
    bench.client.log_metric(run, "system/key", 9.0, OPENED_MS - 60_000, 40)
    bench.leave(run, 0, 1, first_step=None)

    bench.upload()

    assert bench.stored(run) == [(40, 9.0, -60), (41, 0.0, 0), (42, 1.0, 1)]
    assert bench.client.get_run(run).data.tags["sys.cpu"] == "EPYC"


# Only some, or only told


def test_what_waits_is_listed_and_stays(bench: Bench) -> None:
    runs = [bench.new_run() for _ in range(2)]
    paths = [bench.leave(runs[0], 0, 1, 2), bench.leave(runs[1], 0)]
    two_days_ago = paths[0].stat().st_mtime - 2.1 * 86_400
    os.utime(paths[0], (two_days_ago, two_days_ago))

    for _ in range(2):  # listing it does not make it new
        result = bench.upload("--list")

        assert result.exit_code == 0
        first, second = result.output.splitlines()
        assert first.split("  ")[0] == runs[0]
        assert "3 samples" in first
        assert "2 days old" in first
        assert first.endswith(bench.tracking_uri)
        assert "1 samples" in second
        assert "new" in second
    assert spool_files(bench.folder) == paths
    assert bench.stored(runs[0]) == []


def test_a_trial_sends_nothing(bench: Bench) -> None:
    run = bench.new_run()
    path = bench.leave(run, 0, 1, 2)

    result = bench.upload("--dry-run")

    assert result.exit_code == 0
    assert "3 of 3 samples would be sent" in result.output
    assert bench.stored(run) == []
    assert path.exists()


def test_only_the_runs_that_are_named_are_sent(bench: Bench) -> None:
    runs = [bench.new_run() for _ in range(3)]
    paths = [bench.leave(run, 0) for run in runs]

    listed = bench.upload("--list", "--run-id", runs[1])
    bench.upload("--run-id", runs[0], "--run-id", runs[2])

    assert [run in listed.output for run in runs] == [False, True, False]
    assert [len(bench.stored(run)) for run in runs] == [1, 0, 1]
    assert spool_files(bench.folder) == [paths[1]]


@pytest.mark.parametrize("arguments", [(), ("--list",), ("--dry-run",), ("--run-id", "none")])
def test_where_nothing_waits_that_is_said(bench: Bench, arguments: tuple[str, ...]) -> None:
    if "--run-id" in arguments:
        bench.leave(bench.new_run(), 0)

    result = bench.upload(*arguments)

    assert result.exit_code == 0
    assert result.output == f"Nothing waits in {bench.folder}.\n"


# What cannot be sent


def test_what_a_living_process_owns_is_left_to_it(bench: Bench) -> None:
    runs = [bench.new_run() for _ in range(2)]
    path, _ = bench.leave(runs[0], 0), bench.leave(runs[1], 0)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", OWNS, str(path)], stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        result = bench.upload()
        process.kill()

    assert result.exit_code == 0
    assert f"{path} is left alone: another process is sending it" in result.stderr
    assert bench.stored(runs[0]) == []
    assert bench.stored(runs[1]) == points(0)
    assert spool_files(bench.folder) == [path]


def test_what_another_process_has_sent_meanwhile_is_not_spoken_of(
    bench: Bench, mocker: MockerFixture
) -> None:
    path = bench.leave(bench.new_run(), 0)
    path.unlink()
    mocker.patch("mlflow_sysmetrics.cli.upload.spool_files", return_value=[path])

    result = bench.upload()

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Nothing waits in {bench.folder}.\n"


def test_a_store_that_is_not_there_keeps_its_samples_and_no_others(bench: Bench) -> None:
    run = bench.new_run()
    unsent = bench.leave("1234", 0, 1, tracking_uri="http://127.0.0.1:1")
    bench.leave(run, 0)

    for arguments in (["--dry-run"], []):
        result = bench.upload(*arguments, "--tracking-uri", "http://127.0.0.1:1")

        assert result.exit_code == 1
        assert f"not sent, 2 samples stay in {unsent}" in result.output
        assert "Connection refused" in result.output
    assert bench.upload().exit_code == 0
    assert bench.stored(run) == points(0)
    assert spool_files(bench.folder) == [unsent]


@pytest.mark.parametrize("answer", [Busy("too many requests", 7.0), OSError("reset")], ids=repr)
def test_a_store_that_fails_now_and_then_gets_everything(
    bench: Bench, answer: Exception, mocker: MockerFixture
) -> None:
    path = bench.leave("1", *range(2300))
    well = [lambda: None] * 2
    store = ScriptedStore(well[0], *[answer] * 3, *well, *[answer] * 4)
    mocker.patch("mlflow_sysmetrics.cli.upload.open_store", return_value=store)

    result = bench.upload()

    assert result.exit_code == 0
    assert store.steps == list(range(2300))
    assert not path.exists()
    pauses_s = [call.args[0] for call in bench.sleep.call_args_list]
    assert pauses_s == ([7.0] * 7 if isinstance(answer, Busy) else [1.0, 2, 4, 1, 2, 4, 8])


def test_a_store_that_fails_again_and_again_is_given_up(
    bench: Bench, mocker: MockerFixture
) -> None:
    path = bench.leave("1", 0)
    store = ScriptedStore(*[Busy("too many requests", 1.0)] * 100)
    mocker.patch("mlflow_sysmetrics.cli.upload.open_store", return_value=store)

    result = bench.upload()

    assert result.exit_code == 1
    assert f"not sent, 1 samples stay in {path}: too many requests" in result.output
    assert len(store.calls) == 5


@pytest.mark.parametrize(
    "answer",
    [RunNotFound("no such run"), AccessDenied("forbidden"), InvalidPoints("odd")],
    ids=repr,
)
def test_a_store_that_has_said_no_is_not_asked_again(
    bench: Bench, answer: Exception, mocker: MockerFixture
) -> None:
    bench.leave("1", 0)
    store = ScriptedStore(answer)
    mocker.patch("mlflow_sysmetrics.cli.upload.open_store", return_value=store)

    assert bench.upload().exit_code == 1
    assert len(store.calls) == 1


def test_a_run_that_is_deleted_keeps_its_samples(bench: Bench) -> None:
    run = bench.new_run()
    bench.client.delete_run(run)
    path = bench.leave(run, 0, 1)

    result = bench.upload()

    assert result.exit_code == 1
    assert f"2 samples stay in {path}" in result.output
    assert result.output.endswith("if it is gone for good, delete that file\n")

    bench.client.restore_run(run)
    assert bench.upload().exit_code == 0
    assert bench.stored(run) == points(0, 1)


def test_a_file_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    bench.folder.mkdir()
    (bench.folder / "1.spool").write_text("hello\n")

    result = bench.upload()

    assert result.exit_code == 0
    assert "1.spool is left alone: it does not begin as the files of this version do" in (
        result.stderr
    )


def test_without_a_home_a_folder_must_be_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_SYSMETRICS_SPOOL_DIR")
    monkeypatch.setattr(settings, "_default_spool_folder", lambda: None)

    result = bench.upload()

    assert result.exit_code == 1
    assert "MLFLOW_SYSMETRICS_SPOOL_DIR names another" in result.output


def test_the_users_own_folder_is_the_default(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_SYSMETRICS_SPOOL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert bench.upload().output == f"Nothing waits in {tmp_path}/mlflow-sysmetrics/spool.\n"


def test_a_folder_that_makes_no_sense_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSMETRICS_SPOOL_DIR", "~nobody-of-this-name/left")
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder))

    result = bench.upload()

    assert (
        "MLFLOW_SYSMETRICS_SPOOL_DIR='~nobody-of-this-name/left' is not a folder" in result.stderr
    )
    assert result.exit_code == 0
