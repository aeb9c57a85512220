"""A spool file is trusted where nobody but this user can have written it, and checked whole."""

from __future__ import annotations

import json
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from fakes.http_server import running_server
from fakes.scripted_store import ScriptedStore, samples
from fakes.simulation import LONG_S, join_threads
from fakes.uploader_bench import UPLOADER_THREAD, UploaderBench, closed
from mlflow_sysmetrics import log as notices
from mlflow_sysmetrics.cli.main import main
from mlflow_sysmetrics.delivery import spool as spool_module
from mlflow_sysmetrics.delivery.checked_lines import MAX_LINE_BYTES
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import (
    Spool,
    SpoolError,
    SpoolRefused,
    owned_files,
    spool_files,
)
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result
    from pytest_mock import MockerFixture

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes"),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
]

RUN = "0" * 32
URI = "http://somewhere"
HEADER: dict[str, Any] = {
    "format": 1,
    "run_id": RUN,
    "tracking_uri": URI,
    "prefix": "system/",
    "workspace": None,
    "first_step": 0,
    "tags": {},
}
POINT = [0, 1_700_000_000_000, {"x": 1.0}]


@pytest.fixture(autouse=True)
def _own_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(notices, "_said", set())
    yield
    owned_files.disown_all()


def line(record: object) -> bytes:
    text = record if isinstance(record, bytes) else json.dumps(record).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def plant(folder: Path, *records: object, name: str = "planted") -> Path:
    path = folder / f"{name}.spool"
    path.write_bytes(b"".join(line(record) for record in records))
    path.chmod(0o600)
    return path


def header(**changed: object) -> dict[str, Any]:
    return HEADER | changed


def another_user_writes(folder: Path) -> None:
    folder.chmod(0o777)


# Whose a file is


def test_a_file_of_another_user_is_left_alone(tmp_path: Path, mocker: MockerFixture) -> None:
    path = plant(tmp_path, HEADER, POINT)
    mocker.patch("os.geteuid", return_value=os.geteuid() + 1)

    with pytest.raises(SpoolRefused, match="belongs to another user"):
        Spool.adopt(path)


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_file_that_others_may_write_to_is_left_alone(tmp_path: Path, mode: int) -> None:
    path = plant(tmp_path, HEADER, POINT)
    path.chmod(mode)

    with pytest.raises(SpoolRefused, match="others may write to it"):
        Spool.adopt(path)


def test_doctor_counts_no_file_that_is_left_alone(tmp_path: Path) -> None:
    plant(tmp_path, HEADER, POINT)
    plant(tmp_path, HEADER, POINT, name="open-to-all").chmod(0o666)
    environment = {"MLFLOW_SYSMETRICS_SPOOL_DIR": str(tmp_path)}

    result = CliRunner().invoke(main, ["doctor"], env=environment)

    assert f"unsent samples are in {tmp_path} (files: 1)" in " ".join(result.output.split())


def test_a_file_that_others_may_only_read_is_sent(tmp_path: Path) -> None:
    path = plant(tmp_path, HEADER, POINT)
    path.chmod(0o644)

    assert Spool.adopt(path).left == 1


def test_a_link_is_left_alone_whatever_it_leads_to(tmp_path: Path) -> None:
    target = plant(tmp_path, HEADER, POINT)
    for name, leads_to in {
        "file": target,
        "endless": Path("/dev/zero"),
        "dangling": tmp_path / "new",
    }.items():
        link = tmp_path / f"{name}.spool"
        link.symlink_to(leads_to)

        with pytest.raises(SpoolRefused, match="it is a link"):
            Spool.adopt(link)
    assert not (tmp_path / "new").exists()


def test_a_hard_link_is_left_alone(tmp_path: Path) -> None:
    path = plant(tmp_path, HEADER, POINT)
    os.link(path, tmp_path / "other.spool")

    with pytest.raises(SpoolRefused, match="hard links"):
        Spool.adopt(path)


def test_what_is_no_regular_file_is_left_alone_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.spool", 0o600)
    (tmp_path / "folder.spool").mkdir()
    os.mknod(tmp_path / "socket.spool", stat.S_IFSOCK | 0o600)

    for path in spool_files(tmp_path):
        with pytest.raises(SpoolRefused, match="no regular file"):
            Spool.adopt(path)


def test_a_file_that_is_exchanged_after_it_was_looked_at_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plant(tmp_path, HEADER, POINT)
    opens = os.open

    def exchange_and_open(name: str, flags: int, *mode: int, **options: Any) -> int:  # noqa: ANN401 - of `os.open`
        if name == path.name:
            path.chmod(0o666)  # as another one's would be
        return opens(name, flags, *mode, **options)

    monkeypatch.setattr(os, "open", exchange_and_open)

    with pytest.raises(SpoolRefused, match="others may write to it"):
        Spool.adopt(path)


def test_a_file_of_another_that_has_taken_our_files_name_is_not_deleted(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})
    spool.path.unlink()
    spool.path.write_text("another's")

    spool.delete()

    assert spool.path.read_text() == "another's"


# Where files are made


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_in_a_folder_that_others_may_write_to_samples_are_in_a_private_one(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(mode)

    spool = Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})
    spool.append(samples([0]))
    spool.release()

    assert spool.path.parent.parent == tmp_path
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) == 0o700
    assert spool_files(tmp_path) == [spool.path]
    assert Spool.adopt(spool.path).left == 1


def test_a_private_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    shared.mkdir()
    elsewhere.mkdir()
    another_user_writes(shared)
    (shared / f"mlflow-sysmetrics-{os.geteuid()}").symlink_to(elsewhere)

    with pytest.raises(OSError, match="mlflow-sysmetrics-"):
        Spool.create(shared, RunAddress(RUN, URI, "system/"), 0, {})

    assert list(elsewhere.iterdir()) == []


def test_a_private_folder_that_others_were_let_into_is_made_private_again(tmp_path: Path) -> None:
    another_user_writes(tmp_path)
    own = tmp_path / f"mlflow-sysmetrics-{os.geteuid()}"
    own.mkdir()
    own.chmod(0o777)

    Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})

    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_where_modes_are_not_kept_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_user_writes(tmp_path)
    own = tmp_path / f"mlflow-sysmetrics-{os.geteuid()}"
    own.mkdir()
    own.chmod(0o777)
    monkeypatch.setattr(os, "fchmod", lambda *_: None)

    with pytest.raises(OSError, match="does not keep modes"):
        Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})

    assert list(own.iterdir()) == []


def test_the_folders_above_a_new_one_are_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        Spool.create(tmp_path / "state" / "spool", RunAddress(RUN, URI, "system/"), 0, {})
    finally:
        os.umask(umask)

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("home", ["", "/", "somewhere"])
def test_a_home_that_is_none_is_not_taken_for_the_root_folder(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, home: str
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    entry = mocker.patch("pwd.getpwuid")
    entry.return_value.pw_dir = "/home/me"

    folder = Settings().spool_folder

    if sys.platform == "linux":
        expected = Path("/home/me/.local/state/mlflow-sysmetrics/spool")
        assert folder == (None if home == "/" else expected)


# What a file says

HOSTILE: dict[str, tuple[object, ...]] = {
    "a metric of the user's": (header(prefix=""), [9, 1, {"accuracy": 0.999}]),
    "a prefix that is none of ours": (header(prefix="accuracy/"), POINT),
    "a prefix with a way out": (header(prefix="system/../"), POINT),
    "a key with a way out": (HEADER, [0, 1, {"../accuracy": 1.0}]),
    "an empty key": (HEADER, [0, 1, {"": 1.0}]),
    "a key too long": (HEADER, [0, 1, {"x" * 300: 1.0}]),
    "a tag of the user's": (header(tags={"accuracy": "high"}), POINT),
    "a tag of MLflow's": (header(tags={"mlflow.runName": "mine"}), POINT),
    "a tag that is no text": (header(tags={"sys.cpu": 5}), POINT),
    "tags that are a list": (header(tags=[]), POINT),
    "deep JSON": (b"[" * 200_000 + b"]" * 200_000,),
    "deep JSON after a header": (HEADER, b"[" * 200_000 + b"]" * 200_000),
    "no JSON": (b"{not json",),
    "no JSON after a header": (HEADER, b"{not json"),
    "no UTF-8": (HEADER, b"\xff\xfe"),
    "null": (HEADER, None),
    "an empty list": (HEADER, [], POINT),
    "a short list": (HEADER, [1]),
    "a step that is text": (HEADER, ["a", 1, {}]),
    "a step below zero": (HEADER, [-1, 1, {"x": 1.0}]),
    "a step beyond all": (HEADER, [2**62, 1, {"x": 1.0}]),
    "a step that is true": (HEADER, [True, 1, {"x": 1.0}]),
    "a time below zero": (HEADER, [0, -1, {"x": 1.0}]),
    "a time beyond all": (HEADER, [0, 10**18, {"x": 1.0}]),
    "a number too long": (HEADER, b'[0,1,{"x":' + b"9" * 10_000 + b"}]"),
    "a value beyond floats": (HEADER, b'[0,1,{"x":1e999}]'),
    "a value that is no number": (HEADER, b'[0,1,{"x":NaN}]'),
    "a value that is text": (HEADER, [0, 1, {"x": "abc"}]),
    "a value that is null": (HEADER, [0, 1, {"x": None}]),
    "values that are a list": (HEADER, [0, 1, [1.0]]),
    "a mark that is text": (HEADER, {"sent_to": "x"}, POINT),
    "a mark below zero": (HEADER, {"first_step": -5}, POINT),
    "a run id that is an object": (header(run_id={"a": 1}), POINT),
    "a run id with a way out": (header(run_id="../../etc"), POINT),
    "a URI that is a number": (header(tracking_uri=5), POINT),
    "a URI that moves the cursor": (header(tracking_uri="http://x\x1b[2J"), POINT),
    "a workspace with a line end": (header(workspace="a\r\nX-Other: b"), POINT),
    "a first step that is a fraction": (header(first_step=0.5), POINT),
    "another version": (header(format=2), POINT),
}
hostile = pytest.mark.parametrize("records", HOSTILE.values(), ids=HOSTILE.keys())


@hostile
def test_a_file_that_says_what_we_never_write_is_left_alone(
    tmp_path: Path, records: tuple[object, ...]
) -> None:
    path = plant(tmp_path, *records)
    content = path.read_bytes()

    with pytest.raises(SpoolRefused):
        Spool.adopt(path)

    assert path.read_bytes() == content
    assert not owned_files.by_path


@pytest.mark.parametrize(
    "key", ["x", "process/x", "gpu_0/x_percentage", "a key of 0.1", "old-name/x"]
)
def test_a_key_of_an_earlier_version_is_still_sent(tmp_path: Path, key: str) -> None:
    path = plant(tmp_path, header(prefix="system/node-3/"), [0, 1, {key: 1.0}])

    assert [each.values for each in Spool.adopt(path).unsent()] == [{key: 1.0}]


def test_a_file_without_a_line_end_is_left_alone_after_its_first_mebibyte(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    path = tmp_path / "sparse.spool"
    path.touch(0o600)
    os.truncate(path, 200 * 2**20)
    reads = mocker.patch("os.read", side_effect=os.read)

    with pytest.raises(SpoolRefused, match="does not begin"):
        Spool.adopt(path)

    assert reads.call_count <= MAX_LINE_BYTES // 2**16 + 2


def test_a_file_larger_than_any_of_ours_is_left_alone(tmp_path: Path) -> None:
    path = plant(tmp_path, HEADER, POINT)
    os.truncate(path, 400 * 2**20)

    with pytest.raises(SpoolRefused, match="larger than 256 MiB"):
        Spool.adopt(path)


def test_a_line_that_is_too_long_costs_itself_alone(tmp_path: Path) -> None:
    path = plant(tmp_path, HEADER, POINT, b"x" * (3 * MAX_LINE_BYTES), [1, 1, {"x": 1.0}])

    assert [each.step for each in Spool.adopt(path).unsent()] == [0, 1]


# A run, and what strangers have planted beside it


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UploaderBench]:
    bench = UploaderBench(tmp_path)
    yield bench
    join_threads(UPLOADER_THREAD)


def send_own(bench: UploaderBench) -> ScriptedStore:
    store = ScriptedStore()
    bench.uploader.send_leftovers(bench.folder)
    sending = bench.open(store, "own")
    bench.put(sending, 0)
    assert closed(sending, LONG_S) == 0
    join_threads(UPLOADER_THREAD)
    return store


def test_a_run_sends_its_own_and_all_good_files_whatever_else_is_there(
    bench: UploaderBench, caplog: pytest.LogCaptureFixture
) -> None:
    for number, records in enumerate(HOSTILE.values()):
        plant(bench.folder, *records, name=f"hostile-{number}")
    os.mkfifo(bench.folder / "fifo.spool", 0o600)
    left = ScriptedStore()
    bench.leave("left", 0, 1, store=left)

    own = send_own(bench)

    assert (own.steps, left.steps) == ([0], [0, 1])
    assert bench.opened == ["own", "left"]
    said = [each for each in caplog.messages if "left alone" in each]
    assert len(said) == 3
    assert "upload --list` names further ones" in said[-1]


def test_own_samples_go_between_the_steps_of_looking_through_a_large_file(
    bench: UploaderBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_CHECKED_AT_ONCE_BYTES", 1)
    left, later = ScriptedStore(), ScriptedStore()
    bench.leave("left", *range(50), store=left)
    steps = 0
    check_on = Spool.check_on

    def check_and_sample(spool: Spool) -> bool:
        nonlocal steps
        steps += 1
        if steps == 3:
            sending = bench.open(later, "later")
            bench.put(sending, 0)
            sending.end()
        if steps == 5:
            assert later.steps == [0]
        return check_on(spool)

    monkeypatch.setattr(Spool, "check_on", check_and_sample)
    send_own(bench)

    assert steps > 50
    assert (later.steps, left.steps) == ([0], list(range(50)))


def test_a_large_file_that_was_checked_is_not_read_again_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_NOTED_EVERY_BYTES", 1)
    spool = Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 7, {})
    spool.append(samples(range(2000)))
    spool.release()
    os.utime(spool.path, (1000, 1000))
    Spool.adopt(spool.path).release()
    assert spool.path.stat().st_mtime == 1000
    again = Spool.begin_to_adopt(spool.path)

    assert (again.check_on(), again.left, again.first_step) == (True, 2000, 7)
    assert [each.step for each in again.read(0, 10**9)][:2] == [0, 1]


def test_a_check_that_a_process_could_not_end_is_gone_on_with_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})
    spool.append(samples(range(1000)))
    spool.mark(sent_to=10)
    spool.append(samples(range(1000, 2000)))
    spool.release()
    monkeypatch.setattr(spool_module, "_NOTED_EVERY_BYTES", 1000)
    monkeypatch.setattr(spool_module, "_CHECKED_AT_ONCE_BYTES", 1000)
    processes = 1
    while not (part := Spool.begin_to_adopt(spool.path)).check_on():
        part.release()
        processes += 1

    assert processes > 20
    assert (part.left, part.sent_to) == (1990, 10)
    assert [each.step for each in part.unsent()] == list(range(10, 2000))


def test_a_file_that_is_half_sent_is_read_on_from_there(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, RunAddress(RUN, URI, "system/"), 0, {})
    spool.append(samples(range(100)))
    spool.release()
    first = Spool.adopt(spool.path)
    assert len(first.read(0, 60)) == 60
    assert len(first.read(60, 10**9)) == 40
    first.mark(sent_to=60, left=40)
    first.release()

    again = Spool.begin_to_adopt(spool.path)

    assert (again.left, again.sent_to) == (40, 60)
    assert [each.step for each in again.unsent()] == list(range(60, 100))


# The command


def upload(folder: Path, *arguments: str, uri: str = URI) -> Result:
    environment = {"MLFLOW_SYSMETRICS_SPOOL_DIR": str(folder), "MLFLOW_TRACKING_URI": uri}
    return CliRunner().invoke(main, ["upload", *arguments], env=environment)


@hostile
def test_the_command_names_a_bad_file_and_goes_on(
    tmp_path: Path, records: tuple[object, ...]
) -> None:
    plant(tmp_path, *records)
    plant(tmp_path, HEADER, POINT, name="good")

    result = upload(tmp_path, "--list")

    assert result.exit_code == 0
    assert "planted.spool is left alone: " in result.stderr
    assert RUN in result.stdout
    assert "1 samples" in result.stdout


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)], ids=["", "dry"])
def test_credentials_go_to_the_tracking_uri_in_force_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")

    with running_server() as server:
        plant(tmp_path, header(tracking_uri=server.url), POINT)

        result = upload(tmp_path, *arguments, uri=f"sqlite:///{tmp_path}/runs.db")

        assert server.requests == []
        assert f"upload --tracking-uri {server.url}` sends it" in result.stderr
        assert not (tmp_path / "runs.db").exists()


def test_a_database_that_a_file_names_is_not_made(tmp_path: Path) -> None:
    plant(tmp_path, header(tracking_uri=f"sqlite:///{tmp_path}/planted.db"), POINT)

    for arguments in ((), ("--dry-run",), ("--list",)):
        upload(tmp_path, *arguments, uri="http://127.0.0.1:1")

    assert not (tmp_path / "planted.db").exists()


@pytest.mark.parametrize(
    ("left_for", "in_force", "is_same"),
    [
        ("http://host:5000", "http://user:secret@host:5000/", True),
        ("http://HOST", "http://host:80", True),
        ("http://host", "https://host", False),
        ("http://host:5000", "http://host:5001", False),
        ("http://host.evil.example", "http://host", False),
        ("http://host/team-a", "http://host/team-b", False),
        ("http://[", "http://host", False),
        ("http://host:99999999", "http://host", False),
    ],
)
def test_a_file_is_for_the_same_scheme_host_port_and_path(
    tmp_path: Path, left_for: str, in_force: str, *, is_same: bool
) -> None:
    path = plant(tmp_path, header(tracking_uri=left_for), POINT)

    if is_same:
        assert Spool.adopt(path, in_force).left == 1
    else:
        with pytest.raises(SpoolError, match="tracking-uri"):
            Spool.adopt(path, in_force)


def test_a_file_of_another_user_is_shown_before_it_is_sent_and_stays(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    path = plant(tmp_path, HEADER, POINT, [1, 2, {"x": 1.0, "y": 2.0}])
    path.chmod(0o666)
    content = path.read_bytes()
    store = ScriptedStore()
    mocker.patch("mlflow_sysmetrics.cli.upload.open_store", return_value=store)

    assert "left alone" in upload(tmp_path).stderr
    assert store.calls == []
    result = upload(tmp_path, "--file", str(path))

    assert f"2 samples with 3 points for run {RUN} on {URI}" in result.stdout
    assert "2 samples sent; the file is another user's, and stays" in result.stdout
    assert store.steps == [0, 1, 1]
    assert path.read_bytes() == content


@hostile
def test_a_file_that_is_named_passes_the_same_checks(
    tmp_path: Path, records: tuple[object, ...]
) -> None:
    path = plant(tmp_path, *records)
    path.chmod(0o666)

    result = upload(tmp_path, "--file", str(path))

    assert "planted.spool is left alone: " in result.stderr
    assert "sent" not in result.stdout
